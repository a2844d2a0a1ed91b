import { open } from "node:fs/promises";
import { SporeletError } from "@sporelet/errors";
import { pageBytes, scanData } from "@sporelet/host";
import { cacheKey, type Store, type StoredSnapshot } from "@sporelet/store";

/** Something in an image that looks like a secret. */
export interface SecretFinding {
  /** What it looks like, for people: `an AWS access key`. */
  kind: string;
  /** Offset in the image, bytes. */
  offset: number;
  /** What was found, for comparisons: never shown. */
  text: string;
  /** Whether it lies there as a program's own text does: a whole string between two zero bytes. */
  constant: boolean;
}

interface Pattern {
  kind: string;
  /**
   * Rare bytes of every match: what is searched for first. At most six: Node looks for such five times as fast as
   * for longer ones (V8's StringSearch changes its algorithm at seven; 30 against 170 ms for 200 MiB of a disk).
   * It jumps from one first byte to the next: `KIA` takes a third of the time of `AKIA`.
   */
  anchor: string;
  /** Applied to the text from `before` bytes ahead of the anchor. */
  match: RegExp;
  /** How much of a match precedes the anchor, at most. Default: 0. */
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
    anchor: "KEY---",
    before: 27,
    match:
      /-----BEGIN (?:RSA |EC |DSA |OPENSSH )?PRIVATE KEY-----(?:\r?\n|\\n)(?:[A-Za-z0-9+/=]{40,})(?:[A-Za-z0-9+/=\s\\]*-----END [A-Z ]+-----\s*)?/,
  },
  { kind: "an AWS access key", anchor: "KIA", before: 1, match: /AKIA[0-9A-Z]{16}(?![0-9A-Za-z])/ },
  { kind: "a GitHub token", anchor: "ghp_", match: /ghp_[A-Za-z0-9]{36}(?![A-Za-z0-9])/ },
  { kind: "a GitHub token", anchor: "ghs_", match: /ghs_[A-Za-z0-9]{36}(?![A-Za-z0-9])/ },
  { kind: "a GitHub token", anchor: "gho_", match: /gho_[A-Za-z0-9]{36}(?![A-Za-z0-9])/ },
  {
    kind: "a GitHub token",
    anchor: "b_pat_",
    before: 5,
    match: /github_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59}/,
  },
  { kind: "a GitLab token", anchor: "glpat-", match: /glpat-[A-Za-z0-9_-]{20,}/ },
  { kind: "an npm token", anchor: "npm_", match: /npm_[A-Za-z0-9]{36}(?![A-Za-z0-9])/ },
  { kind: "a Slack token", anchor: "xoxb-", match: /xoxb-\d{10,13}-\d{10,13}-[A-Za-z0-9]{20,}/ },
  { kind: "a Stripe key", anchor: "k_live", before: 1, match: /sk_live_[A-Za-z0-9]{24,}/ },
  { kind: "an Anthropic key", anchor: "k-ant-", before: 1, match: /sk-ant-[a-z0-9]+-[A-Za-z0-9_-]{60,}/ },
  { kind: "an OpenAI key", anchor: "-proj-", before: 2, match: /sk-proj-[A-Za-z0-9_-]{60,}/ },
  { kind: "a Google API key", anchor: "zaSy", before: 2, match: /AIzaSy[A-Za-z0-9_-]{33}(?![A-Za-z0-9_-])/ },
];

/** How far a match reaches beyond its anchor at most: a key of 8192 bits has 6.4 KB. */
const reachBytes = 8192;
/** Of what precedes an anchor, and the byte before that. */
const longestHeadBytes = 64;
const overlapBytes = reachBytes + longestHeadBytes;
/** What `scanData` reads at once. */
const mostScannedBytes = 1024 * 1024;
/** Enough to say what is wrong; the rest would be of the same kind. */
const mostFindings = 100;

/** What looks like a secret in a block whose anchors begin before `end`. Pure. */
export function secretsIn(block: Buffer, end = block.length): SecretFinding[] {
  const findings: SecretFinding[] = [];
  for (const { kind, anchor, match, before = 0 } of patterns) {
    for (let at = block.indexOf(anchor); at >= 0 && at < end; at = block.indexOf(anchor, at + 1)) {
      const start = Math.max(0, at - before);
      const found = match.exec(block.toString("latin1", start, at + reachBytes));
      // Documentation uses such examples throughout.
      if (found === null || /EXAMPLE|example/.test(found[0]) || isMonotonous(found[0])) continue;
      const offset = start + found.index;
      // Only the one that this anchor is part of.
      if (offset > at) continue;
      const text = found[0].trimEnd();
      const constant = block[offset - 1] === 0 && (block[offset + found[0].length] ?? 0) === 0;
      findings.push({ kind, offset, text, constant });
      if (findings.length >= mostFindings) return findings;
    }
  }
  return findings;
}

/** Placeholders such as ghp_xxxx…: a real one draws on many characters. */
function isMonotonous(text: string): boolean {
  return new Set(text.replace(/\s*-----END.*/s, "").slice(-20)).size < 8;
}

/** Searches an image file; blocks overlap, so that nothing hides across their borders. */
async function secretsInFile(path: string, signal?: AbortSignal): Promise<SecretFinding[]> {
  const findings = new Map<number, SecretFinding>();
  const search = (block: Buffer, base: number, end: number) => {
    for (const finding of secretsIn(block, end)) {
      const offset = base + finding.offset;
      // What begins a page is a file's beginning, not part of a program.
      const constant = finding.constant && offset % pageBytes !== 0;
      // The overlap is searched twice; the first time with all that precedes it.
      if (findings.size < mostFindings && !findings.has(offset)) {
        findings.set(offset, { ...finding, offset, constant });
      }
    }
  };
  // Holds the end of what was searched, since a match may go on in the next block, and then that block.
  const window = Buffer.alloc(overlapBytes + mostScannedBytes);
  let [filled, base] = [0, 0];
  await using handle = await open(path, "r");
  await scanData(
    handle,
    (buffer, length, offset) => {
      if (offset !== base + filled) {
        search(window.subarray(0, filled), base, filled);
        [filled, base] = [0, offset];
      }
      buffer.copy(window, filled, 0, length);
      filled += length;
      search(window.subarray(0, filled), base, filled - reachBytes);
      const passed = Math.max(0, filled - overlapBytes);
      window.copyWithin(0, passed, filled);
      [filled, base] = [filled - passed, base + passed];
    },
    signal,
  );
  search(window.subarray(0, filled), base, filled);
  return [...findings.values()];
}

/** What a search depends on. */
const rules = patterns.map(({ kind, match }) => [kind, String(match)]);

/**
 * `requireNoSecrets` for a snapshot, which is searched once: a second per GiB, next to four for its first push. That
 * one was found clean is kept in the build cache.
 */
export async function requireCleanSnapshot(
  store: Pick<Store, "cache">,
  snapshot: StoredSnapshot,
  subject: string,
  signal?: AbortSignal,
): Promise<void> {
  const { memory, disk } = snapshot.files;
  const search = () => requireNoSecrets(subject, { memory, disk }, signal);
  await store.cache.getOrCreate("clean", cacheKey([rules, snapshot.digest]), search, { signal });
}

/**
 * Refuses to publish images that hold what looks like a secret: what is in a snapshot is in every clone of it,
 * and in every registry it goes to. Keys that a program on the disk has as a constant are none: TLS libraries
 * bring keys for their self-tests.
 *
 * @param files flat files.
 * @throws SporeletError `failed_precondition` that says what was found where, never the secret itself.
 */
export async function requireNoSecrets(
  subject: string,
  files: { memory: string; disk?: string | undefined },
  signal?: AbortSignal,
): Promise<void> {
  const onDisk = files.disk === undefined ? [] : await secretsInFile(files.disk, signal);
  const constants = new Set(onDisk.flatMap(({ constant, text }) => (constant ? [text] : [])));
  const inMemory = await secretsInFile(files.memory, signal);
  const where = (name: string) => (finding: SecretFinding) =>
    constants.has(finding.text) ? [] : [`${finding.kind} in its ${name} at offset ${finding.offset}`];
  const found = [...onDisk.flatMap(where("disk")), ...inMemory.flatMap(where("memory"))];
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
