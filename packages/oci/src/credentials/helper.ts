import { SporeletError } from "@sporelet/errors";
import { runProcess } from "@sporelet/host";
import type { Credential } from "./credential.ts";

/** A program that keeps credentials: `docker-credential-NAME` (docker/docker-credential-helpers). */
export interface CredentialHelper {
  get(server: string): Promise<Credential | undefined>;
  store(server: string, credential: { username: string; secret: string }): Promise<void>;
  erase(server: string): Promise<void>;
}

export interface HelperOptions {
  /** Keychains may ask a person. Default: 30 s. */
  timeoutMs?: number | undefined;
  /** Default: this process's environment. */
  env?: NodeJS.ProcessEnv | undefined;
  signal?: AbortSignal | undefined;
}

/** The user name with which helpers say that the secret is an identity token. */
const tokenUser = "<token>";
const notFound = /credentials not found|no credentials server URL|not found in native keychain/i;

/** @param name what stands in config.json: `pass`, `ecr-login` */
export function credentialHelper(name: string, options: HelperOptions = {}): CredentialHelper {
  const program = `docker-credential-${name}`;
  const call = async (verb: "get" | "store" | "erase", input: string): Promise<string | undefined> => {
    const operation = `${verb} credentials with`;
    if (!/^[\w.-]+$/.test(name)) {
      const reason = "its name has characters that names of programs do not have";
      throw new SporeletError({
        code: "invalid_argument",
        operation,
        subject: JSON.stringify(program),
        reason,
      });
    }
    const { stdout, stderr, code } = await runProcess([program, verb], {
      operation: `${operation} ${program}`,
      stdin: Buffer.from(input),
      env: options.env,
      signal: options.signal,
      timeoutMs: options.timeoutMs ?? 30_000,
      ok: [0, 1],
    });
    if (code === 0) return stdout;
    // Helpers write their errors to stdout.
    const said = `${stdout}\n${stderr}`.trim();
    if (notFound.test(said)) return undefined;
    throw new SporeletError({
      code: "unavailable",
      operation,
      subject: program,
      reason: said === "" ? "it failed without a word" : (said.split("\n", 1)[0] ?? ""),
      log: said,
    });
  };
  return {
    async get(server) {
      const answer = await call("get", server);
      return answer === undefined ? undefined : parse(answer, program);
    },
    async store(server, { username, secret }) {
      await call("store", JSON.stringify({ ServerURL: server, Username: username, Secret: secret }));
    },
    async erase(server) {
      await call("erase", server);
    },
  };
}

function parse(answer: string, program: string): Credential | undefined {
  try {
    const { Username: username, Secret: secret } = JSON.parse(answer) as Record<string, unknown>;
    if (typeof username === "string" && typeof secret === "string") {
      if (secret === "") return undefined;
      return username === tokenUser ? { identityToken: secret } : { username, password: secret };
    }
  } catch {
    // Not the parser's own words: they may quote the secret.
  }
  throw new SporeletError({
    code: "corrupt",
    operation: "get credentials with",
    subject: program,
    reason: "its answer is not JSON with Username and Secret",
  });
}
