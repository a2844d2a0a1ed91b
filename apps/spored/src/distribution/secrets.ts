import { open } from "node:fs/promises";
import { SporeletError } from "@sporelet/errors";
import { scanData } from "@sporelet/host";

/** Something in an image that looks like a secret. */
export interface SecretFinding {
  /** What it looks like, for people: `an AWS access key`. */
  kind: string;
  /** Offset in the image, bytes. */
  offset: number;
}

interface Pattern {
  kind: string;
  /** Rare bytes that every match begins with, or for keys ends its head with: what is searched for first. */
  anchor: string;
  /** Applied to the text from `before` bytes ahead of the anchor; sticky. */
  match: RegExp;
  before?: number;
}

/**
 * Formats that are told from other text by their issuer's prefix and length, so that a finding means something.
 * Passwords and random tokens without a prefix cannot be found this way.
 */
const patterns: readonly Pattern[] = [
  {
    // RFC 7468. A key has at least a line of base64 after its head; the head alone is in many programs. The
    // line may end with an escaped newline, as in JSON.
    kind: "a private key",
    anchor: "PRIVATE KEY-----",
    before: 22,
    match: /-----BEGIN (?:RSA |EC |DSA |OPENSSH )?PRIVATE KEY-----(?:\r?\n|\\n)(?:[A-Za-z0-9+/=]{40,})/,
  },
  { kind: "an AWS access key", anchor: "AKIA", match: /AKIA[0-9A-Z]{16}(?![0-9A-Za-z])/ },
  { kind: "a GitHub token", anchor: "ghp_", match: /ghp_[A-Za-z0-9]{36}(?![A-Za-z0-9])/ },
  { kind: "a GitHub token", anchor: "ghs_", match: /ghs_[A-Za-z0-9]{36}(?![A-Za-z0-9])/ },
  { kind: "a GitHub token", anchor: "gho_", match: /gho_[A-Za-z0-9]{36}(?![A-Za-z0-9])/ },
  { kind: "a GitHub token", anchor: "github_pat_", match: /github_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59}/ },
  { kind: "a GitLab token", anchor: "glpat-", match: /glpat-[A-Za-z0-9_-]{20,}/ },
  { kind: "an npm token", anchor: "npm_", match: /npm_[A-Za-z0-9]{36}(?![A-Za-z0-9])/ },
  { kind: "a Slack token", anchor: "xoxb-", match: /xoxb-\d{10,13}-\d{10,13}-[A-Za-z0-9]{20,}/ },
  { kind: "a Stripe key", anchor: "sk_live_", match: /sk_live_[A-Za-z0-9]{24,}/ },
  { kind: "an Anthropic key", anchor: "sk-ant-", match: /sk-ant-[a-z0-9]+-[A-Za-z0-9_-]{60,}/ },
  { kind: "an OpenAI key", anchor: "sk-proj-", match: /sk-proj-[A-Za-z0-9_-]{60,}/ },
  { kind: "a Google API key", anchor: "AIzaSy", match: /AIzaSy[A-Za-z0-9_-]{33}(?![A-Za-z0-9_-])/ },
];

/** How far a match reaches beyond its anchor at most; blocks overlap by this. */
const reachBytes = 256;
/** Enough to say what is wrong; the rest would be of the same kind. */
const mostFindings = 20;

/** What looks like a secret in a block whose anchors begin before `end`. Pure. */
export function secretsIn(block: Buffer, end = block.length): SecretFinding[] {
  const findings: SecretFinding[] = [];
  for (const { kind, anchor, match, before = 0 } of patterns) {
    for (let at = block.indexOf(anchor); at >= 0 && at < end; at = block.indexOf(anchor, at + 1)) {
      const start = Math.max(0, at - before);
      const text = block.toString("latin1", start, at + reachBytes);
      const found = match.exec(text);
      // Documentation uses such examples throughout.
      if (found === null || /EXAMPLE|example/.test(found[0]) || isMonotonous(found[0])) continue;
      // With `before` an earlier match could lie in the text: only the one at this anchor counts.
      if (before === 0 && found.index !== 0) continue;
      findings.push({ kind, offset: start + found.index });
      if (findings.length >= mostFindings) return findings;
    }
  }
  return findings;
}

/** Placeholders such as ghp_xxxx…: a real one draws on many characters. */
function isMonotonous(text: string): boolean {
  return new Set(text.slice(-20)).size < 8;
}

/** Searches an image file; blocks overlap, so that nothing hides across their borders. */
async function secretsInFile(path: string, signal?: AbortSignal): Promise<SecretFinding[]> {
  const findings: SecretFinding[] = [];
  await using handle = await open(path, "r");
  // The end of the block before, in front of each block that adjoins it.
  let tail = Buffer.alloc(0);
  let nextOffset = 0;
  await scanData(
    handle,
    (buffer, length, offset) => {
      if (offset !== nextOffset) tail = Buffer.alloc(0);
      const block = Buffer.concat([tail, buffer.subarray(0, length)]);
      const base = offset - tail.length;
      for (const finding of secretsIn(block)) {
        const at = base + finding.offset;
        if (findings.length < mostFindings && !findings.some((known) => known.offset === at)) {
          findings.push({ ...finding, offset: at });
        }
      }
      tail = Buffer.from(block.subarray(Math.max(0, block.length - reachBytes)));
      nextOffset = offset + length;
    },
    signal,
  );
  return findings;
}

/**
 * Refuses to publish images that hold what looks like a secret: what is in a snapshot is in every clone of it,
 * and in every registry it goes to.
 *
 * @param images flat files by what they are called in the error.
 * @throws SporeletError `failed_precondition` that says what was found where, never the secret itself.
 */
export async function requireNoSecrets(
  subject: string,
  images: Readonly<Record<string, string | undefined>>,
  signal?: AbortSignal,
): Promise<void> {
  const found: string[] = [];
  for (const [name, path] of Object.entries(images)) {
    if (path === undefined) continue;
    for (const { kind, offset } of await secretsInFile(path, signal)) {
      found.push(`${kind} in its ${name} at offset ${offset}`);
    }
  }
  if (found.length === 0) return;
  const more = found.length > 3 ? `, and ${found.length - 3} more` : "";
  throw new SporeletError({
    code: "failed_precondition",
    operation: "publish",
    subject,
    reason: `it holds what looks like a secret: ${found.slice(0, 3).join(", ")}${more}`,
    hint: "take it out and freeze again, or give it to clones with run -e; --allow-secrets publishes it as it is",
  });
}
