import { one } from "../cli/arguments.ts";
import { defineCommand } from "../cli/command.ts";
import { flag, text } from "../cli/options.ts";
import { registryOptions } from "./registry-options.ts";

const loginSignature = {
  args: { registry: one("REGISTRY", "HOST[:PORT] of the registry") },
  options: {
    username: text("-u, --username <name>", "who logs in (default: asked for)"),
    passwordStdin: flag("--password-stdin", "read the password, or token, from standard input"),
    ...registryOptions,
  },
};
export type LoginSignature = typeof loginSignature;

export const login = defineCommand({
  name: "login",
  summary: "Log in to a registry",
  description: `Tries the name and the password out, and keeps them where docker login does: with the program that
$DOCKER_CONFIG/config.json (default: ~/.docker) names in credHelpers or credsStore, otherwise in that file itself,
readable for its owner alone but not encrypted. push, pull, run, and docker and oras as well, use them from then on.

Without --password-stdin the password is asked for on the terminal, where it is not shown.`,
  signature: loginSignature,
  examples: [
    ["sporectl login registry.example", "Ask for name and password"],
    ["sporectl login ghcr.io -u me --password-stdin <token.txt", "Log in from a script"],
  ],
  load: () => import("../actions/login.ts"),
});

const logoutSignature = {
  args: { registry: one("REGISTRY", "HOST[:PORT] of the registry") },
  options: {},
};
export type LogoutSignature = typeof logoutSignature;

export const logout = defineCommand({
  name: "logout",
  summary: "Forget the login to a registry",
  description: `Removes what sporectl login or docker login keeps for it. The registry is not told: tokens that it gave stay
valid until they expire.`,
  signature: logoutSignature,
  examples: [["sporectl logout registry.example", "Forget the login"]],
  load: () => import("../actions/logout.ts"),
});
