import { SporeletError } from "@sporelet/errors";
import { readDockerConfig, serverOf, writeDockerConfig } from "./config-file.ts";
import type { CredentialSource } from "./credential.ts";
import { credentialHelper, type HelperOptions } from "./helper.ts";

export interface DockerCredentialsOptions extends HelperOptions {
  /** Where config.json is: ~/.docker or $DOCKER_CONFIG of whoever asks. Default: nowhere, so that there are none. */
  directory?: string | undefined;
}

/** Where credentials went. */
export type StoredIn = { helper: string } | { file: string };

/** What `docker login` and `sporectl login` left: in config.json, or in the program that it names. */
export function dockerCredentials(options: DockerCredentialsOptions = {}): CredentialSource {
  const { directory } = options;
  return {
    async get(registry, signal) {
      if (directory === undefined) return undefined;
      const config = await readDockerConfig(directory);
      const helper = config.helperFor(registry);
      const found =
        helper === undefined
          ? undefined
          : await credentialHelper(helper, { ...options, signal: signal ?? options.signal }).get(
              serverOf(registry),
            );
      return found ?? config.credentialFor(registry);
    },
  };
}

/** Keeps a name and a password for a registry, where config.json says that they are to be kept. */
export async function saveCredentials(
  registry: string,
  credential: { username: string; password: string },
  options: DockerCredentialsOptions & { directory: string },
): Promise<StoredIn> {
  const { username, password } = credential;
  if (username === "" || username.includes(":")) {
    throw new SporeletError({
      code: "invalid_argument",
      operation: "keep the credentials for",
      subject: registry,
      reason: username === "" ? "there is no user name" : "user names have no colons",
    });
  }
  const config = await readDockerConfig(options.directory);
  const helper = config.helperFor(registry);
  if (helper === undefined) {
    const auth = Buffer.from(`${username}:${password}`).toString("base64");
    await writeDockerConfig(config.path, config.with(registry, { auth }));
    return { file: config.path };
  }
  await credentialHelper(helper, options).store(serverOf(registry), { username, secret: password });
  // As Docker does: an empty entry says that there is a login, and no old password stays in the file.
  await writeDockerConfig(config.path, config.with(registry, {}));
  return { helper: `docker-credential-${helper}` };
}

/**
 * Forgets what is kept for a registry.
 *
 * @returns false when nothing was
 */
export async function eraseCredentials(
  registry: string,
  options: DockerCredentialsOptions & { directory: string },
): Promise<boolean> {
  const config = await readDockerConfig(options.directory);
  const helper = config.helperFor(registry);
  let erased = config.has(registry);
  if (helper !== undefined) {
    const program = credentialHelper(helper, options);
    const server = serverOf(registry);
    if ((await program.get(server)) !== undefined) {
      await program.erase(server);
      erased = true;
    }
  }
  if (config.has(registry)) await writeDockerConfig(config.path, config.with(registry, undefined));
  return erased;
}
