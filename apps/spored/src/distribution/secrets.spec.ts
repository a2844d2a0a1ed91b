import { open } from "node:fs/promises";
import path from "node:path";
import { temporaryDirectory } from "@sporelet/host/testing";
import { describe, expect, it } from "vitest";
import { requireNoSecrets, secretsIn } from "./secrets.ts";

// Put together here, so that no text of this file is itself a find.
const alphabet = "aB3dE5gH7jK9mN1pQ2rS4tU6vW8xY0zAbCdEfGhI";
const secrets: Record<string, string> = {
  "a private key": `-----BEGIN ${"OPENSSH "}PRIVATE KEY-----\n${alphabet}${alphabet}\n`,
  "an AWS access key": `${"AK"}IA${"B3D5F7H9J2L4N6P8"} `,
  "a GitHub token": `${"gh"}p_${alphabet.slice(0, 36)} `,
  "a GitLab token": `${"gl"}pat-${alphabet.slice(0, 20)}`,
  "an npm token": `${"np"}m_${alphabet.slice(0, 36)} `,
  "a Slack token": `${"xo"}xb-1234567890-1234567890-${alphabet.slice(0, 24)}`,
  "a Stripe key": `${"sk"}_live_${alphabet.slice(0, 24)}`,
  "an Anthropic key": `${"sk"}-ant-api03-${alphabet}${alphabet}`,
  "an OpenAI key": `${"sk"}-proj-${alphabet}${alphabet}`,
  "a Google API key": `${"AI"}zaSy${alphabet.slice(0, 33)} `,
};

describe("secrets in a block", () => {
  for (const [kind, text] of Object.entries(secrets)) {
    it(`${kind} is found, at its offset`, () => {
      const block = Buffer.concat([Buffer.alloc(1000, "x"), Buffer.from(text), Buffer.alloc(50)]);
      expect(secretsIn(block)).toMatchObject([{ kind, offset: 1000, constant: false }]);
    });
  }

  it("a fine-grained GitHub token is found", () => {
    const token = `${"github"}_pat_${alphabet.slice(0, 22)}_${alphabet}${alphabet.slice(0, 19)}`;
    expect(secretsIn(Buffer.from(`x=${token}`))).toMatchObject([{ kind: "a GitHub token", offset: 2 }]);
  });

  it("a key in JSON, its lines joined by escaped newlines, is found", () => {
    const text = `{"private_key":"-----BEGIN ${""}PRIVATE KEY-----\\n${alphabet}${alphabet}\\n"}`;
    expect(secretsIn(Buffer.from(text))).toMatchObject([{ kind: "a private key", offset: 16 }]);
  });

  it("the heads that programs contain, public keys, examples and placeholders are none", () => {
    const harmless = [
      `-----BEGIN RSA ${"PRIVATE"} KEY-----\0`,
      `-----BEGIN PUBLIC KEY-----\n${alphabet}${alphabet}\n`,
      `${"AK"}IAIOSFODNN7EXAMPLE `,
      `${"gh"}p_${"x".repeat(36)} `,
      `${"gh"}p_short `,
      `${"AK"}IA lower case`,
    ];
    for (const text of harmless) expect(secretsIn(Buffer.from(text)), text).toEqual([]);
  });
});

describe("publishing", () => {
  it("is refused with what was found and where, but not with the secret", async () => {
    await using directory = await temporaryDirectory();
    const image = path.join(directory.path, "image");
    const secret = secrets["a GitHub token"] ?? "";
    // Across the border of two blocks that are read one after the other.
    const offset = 1024 * 1024 - 10;
    await using file = await open(image, "w");
    await file.truncate(8 * 1024 * 1024);
    await file.write(Buffer.alloc(2 * 1024 * 1024, "a"), 0, undefined, 0);
    await file.write(Buffer.from(` ${secret}`), 0, undefined, offset - 1);
    const refusal = await requireNoSecrets("shop:1", { memory: image, disk: undefined }).catch(
      (error) => error,
    );
    expect(refusal).toMatchObject({ code: "failed_precondition", subject: "shop:1" });
    expect(refusal.reason).toContain(`a GitHub token in its memory at offset ${offset}`);
    expect(refusal.reason).not.toContain(secret.trim());
  });

  it("goes on with the self-test keys that programs bring, and stops at the same as a file", async () => {
    await using directory = await temporaryDirectory();
    const [memory, disk] = [path.join(directory.path, "memory"), path.join(directory.path, "disk")];
    const key = `-----BEGIN ${"EC "}PRIVATE KEY-----\n${alphabet}\n${alphabet}\n-----END EC PRIVATE KEY-----\n`;
    await using memoryFile = await open(memory, "w");
    await using diskFile = await open(disk, "w");
    await diskFile.truncate(4 * 1024 * 1024);
    await diskFile.write(`\0${key}\0`, 1024 * 1024 - 200);
    await memoryFile.write(`heap ${key}`, 5000);
    await expect(requireNoSecrets("shop:1", { memory, disk })).resolves.toBeUndefined();
    await diskFile.write(key.replace("aB3d", "bB3d"), 2 * 1024 * 1024);
    await expect(requireNoSecrets("shop:1", { memory, disk })).rejects.toThrow(
      /in its disk at offset 2097152/,
    );
  });

  it("goes on when there is nothing", async () => {
    await using directory = await temporaryDirectory();
    const image = path.join(directory.path, "image");
    await using file = await open(image, "w");
    await file.truncate(64 * 1024);
    await expect(requireNoSecrets("shop:1", { memory: image })).resolves.toBeUndefined();
  });
});
