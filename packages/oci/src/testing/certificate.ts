import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** A certificate for this machine's loopback addresses, which nobody trusts who is not told to. */
export interface TestCertificate extends Disposable {
  cert: string;
  key: string;
  certFile: string;
  keyFile: string;
}

/** Why tests cannot make certificates here; undefined when they can. */
export function whyNoCertificate(): string | undefined {
  return spawnSync("openssl", ["version"]).status === 0 ? undefined : "openssl is not installed";
}

/** Makes a certificate that signs itself, in files that are removed when it goes out of scope. */
export function makeCertificate(): TestCertificate {
  const directory = mkdtempSync(join(tmpdir(), "sporelet-cert-"));
  const [certFile, keyFile] = [join(directory, "cert.pem"), join(directory, "key.pem")];
  const { status, stderr } = spawnSync("openssl", [
    ...["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"],
    ...[
      "-subj",
      "/CN=sporelet test",
      "-addext",
      "subjectAltName=IP:127.0.0.1,IP:0.0.0.0,IP:::1,DNS:localhost",
    ],
    ...["-out", certFile, "-keyout", keyFile],
  ]);
  const remove = () => rmSync(directory, { recursive: true, force: true });
  if (status !== 0) {
    remove();
    throw new Error(`openssl failed: ${stderr}`);
  }
  const cert = readFileSync(certFile, "utf8");
  const key = readFileSync(keyFile, "utf8");
  return { cert, key, certFile, keyFile, [Symbol.dispose]: remove };
}
