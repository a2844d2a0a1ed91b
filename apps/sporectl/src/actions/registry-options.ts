import path from "node:path";
import type { Context } from "../cli/context.ts";

/** Options and environment of the caller that say how a registry is reached; spored's own do not count. */
export function registryRequest(
  context: Context,
  { plainHttp, caFile }: { plainHttp: boolean; caFile: string | undefined },
) {
  const { env, cwd } = context.io;
  const either = (name: string) => env[name.toLowerCase()] || env[name] || "";
  return {
    dockerConfig: dockerConfigDirectory(context),
    plainHttp,
    caFile: caFile === undefined ? "" : path.resolve(cwd, caFile),
    // HTTP_PROXY in upper case alone is what a CGI program is given by its client (CVE-2016-5385): that
    // does not concern a program that people start.
    httpProxy: either("HTTP_PROXY"),
    httpsProxy: either("HTTPS_PROXY"),
    noProxy: either("NO_PROXY"),
  };
}

/** Where Docker's config.json is: $DOCKER_CONFIG, or ~/.docker. */
export function dockerConfigDirectory({ io: { env, cwd } }: Context): string {
  return env.DOCKER_CONFIG ? path.resolve(cwd, env.DOCKER_CONFIG) : path.join(env.HOME || "/", ".docker");
}
