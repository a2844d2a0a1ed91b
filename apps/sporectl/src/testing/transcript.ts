/** One command of a transcript, and what it is to print. */
export interface TranscriptStep {
  /** Arguments of sporectl. */
  argv: string[];
  /** The line as it stands. */
  line: string;
  /** Standard output as it stands, standard error with `! ` before each line, then `[exit N]` unless it is 0. */
  expected: string[];
  /** Comment and empty lines before it. */
  before: string[];
}

/**
 * Reads a transcript: lines that begin with `$ sporectl` are commands, those below them what they print, `#`
 * begins a comment between commands. An empty line in the output stands as `.`.
 */
export function parseTranscript(text: string): TranscriptStep[] {
  const steps: TranscriptStep[] = [];
  let before: string[] = [];
  for (const line of text.trimEnd().split("\n")) {
    const last = steps.at(-1);
    if (line.startsWith("$ ")) {
      steps.push({ argv: splitWords(line.slice(2)).slice(1), line, expected: [], before });
      before = [];
    } else if (line === "" || line.startsWith("# ")) before.push(line);
    else if (last !== undefined) last.expected.push(line);
  }
  return steps;
}

/** What a command printed, in the form of a transcript. */
export function transcriptOutput(result: { code: number; stdout: Uint8Array; stderr: string }): string[] {
  const lines = (text: string) => (text === "" ? [] : text.replace(/\n$/, "").split("\n"));
  return [
    ...lines(Buffer.from(result.stdout).toString()).map((line) => (line === "" ? "." : line)),
    ...lines(result.stderr).map((line) => `! ${line}`.trimEnd()),
    ...(result.code === 0 ? [] : [`[exit ${result.code}]`]),
  ];
}

/** Words as a shell splits them, with single and double quotes and nothing else. */
function splitWords(line: string): string[] {
  return [...line.matchAll(/(?:[^\s'"]+|'[^']*'|"[^"]*")+/g)].map(([word]) =>
    word.replace(/'([^']*)'|"([^"]*)"/g, "$1$2"),
  );
}
