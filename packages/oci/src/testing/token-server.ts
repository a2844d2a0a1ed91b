import { createPrivateKey, sign, X509Certificate } from "node:crypto";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import type { TestCertificate } from "./certificate.ts";

/** Gives tokens that Debian's docker-registry takes. */
export interface TokenServer extends AsyncDisposable {
  /** `auth:` of docker-registry's configuration. */
  readonly config: string;
  /** Scopes of the tokens that were given. */
  readonly given: readonly string[][];
}

/**
 * A token server for one person, who may do everything; everybody else may pull. The tokens are JSON Web Tokens
 * signed with ES256 (distribution: "Token Authentication Implementation").
 */
export async function startTokenServer(options: {
  username: string;
  password: string;
  certificate: TestCertificate;
}): Promise<TokenServer> {
  const { username, password, certificate } = options;
  const key = createPrivateKey(certificate.key);
  const chain = [new X509Certificate(certificate.cert).raw.toString("base64")];
  const owner = `Basic ${Buffer.from(`${username}:${password}`).toString("base64")}`;
  const given: string[][] = [];
  const encode = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url");

  const server = createServer((request, response) => {
    const { authorization } = request.headers;
    if (authorization !== undefined && authorization !== owner) {
      response.writeHead(401).end();
      return;
    }
    const query = new URL(request.url ?? "", "http://token.invalid").searchParams;
    const scopes = query.getAll("scope");
    given.push(scopes);
    const access = scopes.map((scope) => {
      const [, type, name, actions = ""] = /^([^:]+):(.+):([^:]+)$/.exec(scope) ?? [];
      const allowed = actions.split(",").filter((action) => authorization === owner || action === "pull");
      return { type, name, actions: allowed };
    });
    const now = Math.floor(Date.now() / 1000);
    const times = { iat: now, nbf: now - 10, exp: now + 300 };
    const claims = {
      iss: "tests",
      sub: username,
      aud: query.get("service"),
      jti: String(given.length),
      ...times,
      access,
    };
    const content = `${encode({ typ: "JWT", alg: "ES256", x5c: chain })}.${encode(claims)}`;
    const signature = sign("sha256", Buffer.from(content), { key, dsaEncoding: "ieee-p1363" });
    const token = `${content}.${signature.toString("base64url")}`;
    response.writeHead(200, { "content-type": "application/json" });
    response.end(JSON.stringify({ token, expires_in: 300 }));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const realm = `http://127.0.0.1:${(server.address() as AddressInfo).port}/token`;
  const values = `realm: "${realm}", service: tests, issuer: tests, rootcertbundle: ${certificate.certFile}`;
  return {
    config: `auth: { token: { ${values} } }`,
    given,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
