import { randomBytes } from "node:crypto";
import { type Exchange, errorReply, type Reply } from "./reply.ts";

/** Who is let in, and how they prove it. */
export interface TestAuth {
  kind: "basic" | "token";
  username: string;
  password: string;
  /** Taken in place of the password by the token server. Default: none. */
  identityToken?: string;
  /** Whether anybody may pull. Default: false. */
  anonymousPull?: boolean;
  /** What tokens are said to live; they do until they are revoked. Default: 300. */
  tokenLifeSeconds?: number;
  /** Where tokens are said to come from. Default: this registry's own /token. */
  realm?: string;
}

export interface AuthServer {
  /** An answer where the request is not allowed. */
  check(exchange: Exchange, repository: string | undefined): Reply | undefined;
  /** The token server. */
  token(exchange: Exchange): Promise<Reply>;
  /** Makes all tokens that were given worthless. */
  revoke(): void;
}

export function createAuth(auth: TestAuth | undefined, baseUrl: () => string): AuthServer {
  const tokens = new Map<string, string[]>();

  const isOwner = (header: string | undefined): boolean =>
    header === `Basic ${Buffer.from(`${auth?.username}:${auth?.password}`).toString("base64")}`;

  return {
    check({ incoming, url }, repository) {
      if (auth === undefined) return undefined;
      const { authorization } = incoming.headers;
      const action = incoming.method === "GET" || incoming.method === "HEAD" ? "pull" : "push";
      const needed = repository === undefined ? [] : [`${repository}:${action}`];
      const from = url.searchParams.get("from");
      if (from !== null) needed.push(`${from}:pull`);
      if (auth.kind === "basic") {
        if (isOwner(authorization)) return undefined;
        return unauthorized('Basic realm="registry"');
      }
      const allowed = tokens.get(authorization?.replace(/^Bearer /, "") ?? "");
      if (allowed !== undefined && needed.every((it) => allowed.includes(it))) return undefined;
      const realm = auth.realm ?? `${baseUrl()}/token`;
      const scope =
        repository === undefined
          ? ""
          : `,scope="repository:${repository}:${action === "push" ? "pull,push" : "pull"}"`;
      return unauthorized(`Bearer realm="${realm}",service="test registry"${scope}`);
    },

    async token({ incoming, url, read }) {
      const form = new URLSearchParams((await read()).toString());
      const post = incoming.method === "POST";
      const identified = post
        ? auth?.identityToken !== undefined && form.get("refresh_token") === auth.identityToken
        : isOwner(incoming.headers.authorization);
      if (!identified && (post || incoming.headers.authorization !== undefined)) {
        return errorReply(401, "UNAUTHORIZED", "incorrect username or password");
      }
      const scopes = post ? (form.get("scope") ?? "").split(" ") : url.searchParams.getAll("scope");
      const allowed = scopes.flatMap((scope) => allowedBy(scope, identified, auth?.anonymousPull ?? false));
      const value = randomBytes(12).toString("base64url");
      tokens.set(value, allowed);
      const body = Buffer.from(JSON.stringify({ token: value, expires_in: auth?.tokenLifeSeconds ?? 300 }));
      return { status: 200, headers: { "content-type": "application/json" }, body };
    },

    revoke: () => tokens.clear(),
  };
}

function allowedBy(scope: string, identified: boolean, anonymousPull: boolean): string[] {
  const [, repository, actions = ""] = /^repository:(.+):([a-z,]+)$/.exec(scope) ?? [];
  if (repository === undefined) return [];
  const granted = actions.split(",").filter((action) => identified || (anonymousPull && action === "pull"));
  return granted.map((action) => `${repository}:${action}`);
}

function unauthorized(challenge: string): Reply {
  return errorReply(401, "UNAUTHORIZED", "authentication required", { "www-authenticate": challenge });
}
