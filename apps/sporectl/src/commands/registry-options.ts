import { flag, text } from "../cli/options.ts";

/** How a registry is reached; the same for every command that reaches one. */
export const registryOptions = {
  plainHttp: flag("--plain-http", "HTTP instead of HTTPS; loopback addresses need not be told"),
  caFile: text("--ca-file <file>", "PEM file with further certificate authorities", "files"),
};
