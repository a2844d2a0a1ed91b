/** What proves to a registry who is asking. */
export type Credential =
  | { username: string; password: string }
  /** A refresh token, which a registry's token server gave at login (`identitytoken` in config.json). */
  | { identityToken: string }
  /** A token that the registry itself takes (`registrytoken` in config.json). */
  | { registryToken: string };

/** Where credentials come from. */
export interface CredentialSource {
  /**
   * @param registry `host[:port]`
   * @returns undefined where none are known: the registry is then asked anonymously
   */
  get(registry: string, signal?: AbortSignal): Promise<Credential | undefined>;
}
