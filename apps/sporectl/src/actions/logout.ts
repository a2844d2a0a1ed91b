import { eraseCredentials } from "@sporelet/oci";
import type { Action } from "../cli/command.ts";
import type { LogoutSignature } from "../commands/login.ts";
import { requireRegistry } from "./login.ts";
import { dockerConfigDirectory } from "./registry-options.ts";

export const action: Action<LogoutSignature> = async (context, { registry }) => {
  requireRegistry(registry);
  const { env } = context.io;
  const erased = await eraseCredentials(registry, {
    directory: dockerConfigDirectory(context),
    env,
    signal: context.signal,
  });
  context.note(erased ? `logged out of ${registry}` : `there was no login to ${registry}`);
  return 0;
};
