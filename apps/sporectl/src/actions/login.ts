import { SporeletError } from "@sporelet/errors";
import { createRegistryClient, isRegistry, saveCredentials } from "@sporelet/oci";
import { ask, readSecret } from "../cli/ask.ts";
import type { Action } from "../cli/command.ts";
import type { Context } from "../cli/context.ts";
import type { LoginSignature } from "../commands/login.ts";
import { dockerConfigDirectory, registryRequest } from "./registry-options.ts";

export const action: Action<LoginSignature> = async (context, { registry }, options) => {
  requireRegistry(registry);
  const username = options.username ?? (await ask(context, "user name", { hint: "give it with --username" }));
  const password = options.passwordStdin
    ? await readSecret(context)
    : await ask(context, "password", { secret: true, hint: "give it with --password-stdin" });
  if (username === "" || password === "") {
    throw refusal(registry, `the ${username === "" ? "user name" : "password"} is empty`);
  }
  const credential = { username, password };
  await tryOut(context, registry, credential, options);
  const stored = await saveCredentials(registry, credential, {
    directory: dockerConfigDirectory(context),
    env: context.io.env,
    signal: context.signal,
  });
  const where = "helper" in stored ? `with ${stored.helper}` : `in ${stored.file}, not encrypted`;
  context.note(`logged in to ${registry} as ${username}; the password is kept ${where}`);
  return 0;
};

async function tryOut(
  context: Context,
  registry: string,
  credential: { username: string; password: string },
  options: { plainHttp: boolean; caFile: string | undefined },
): Promise<void> {
  const { plainHttp, caFile, httpProxy, httpsProxy, noProxy } = registryRequest(context, options);
  await using client = createRegistryClient({
    credentials: { get: async () => credential },
    plainHttp,
    caFile: caFile || undefined,
    proxy: { http: httpProxy, https: httpsProxy, no: noProxy },
    onRetry: (why) => context.note(`${registry}: ${why}; trying again`),
  });
  try {
    await client.check(registry, context.signal);
  } catch (error) {
    if (!(error instanceof SporeletError) || error.code !== "permission_denied") throw error;
    // Not the client's own hint, which is to log in.
    const hint = "check the user name and the password; some registries want an access token as the password";
    throw new SporeletError({ ...error, operation: "log in to", subject: registry, hint, cause: error });
  }
}

/** @throws SporeletError `invalid_argument` when it is no host, or more than that */
export function requireRegistry(registry: string): void {
  if (isRegistry(registry)) return;
  const host = registry.replace(/^https?:\/\//, "").split("/")[0] ?? "";
  const hint = isRegistry(host)
    ? `did you mean ${host}?`
    : "write HOST or HOST:PORT, for example registry.example";
  throw refusal(JSON.stringify(registry), "it is not the host of a registry", hint);
}

function refusal(subject: string, reason: string, hint?: string): SporeletError {
  return new SporeletError({
    code: "invalid_argument",
    operation: "use the login to",
    subject,
    reason,
    hint,
  });
}
