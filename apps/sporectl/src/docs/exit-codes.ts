import { errorCodes } from "@sporelet/errors";

const meanings: Record<keyof typeof errorCodes, string> = {
  invalid_argument: "The call is wrong: an unknown option, a malformed file, a value out of its range",
  not_found: "A machine, a snapshot or a file does not exist",
  already_exists: "The name or the port is taken",
  failed_precondition: "The state of the subject does not allow it: a stopped machine cannot be paused",
  resource_exhausted: "No room: memory, disk, ports, file descriptors",
  deadline_exceeded: "It took longer than it may",
  guest_failed: "Something in the guest failed: a hook, a service, a warm-up",
  corrupt: "Stored data is truncated, altered or malformed",
  incompatible: "Machine state that this host cannot restore",
  unsupported: "This host lacks something: a program, a device, a feature of the kernel",
  permission_denied: "Permission denied",
  unavailable: "spored or a VMM cannot be reached, or went away",
  cancelled: "Cancelled with Ctrl-C; 143 after SIGTERM, 129 after SIGHUP",
  internal: "A defect of Sporelet",
};

/** The page docs/exit-codes.md. */
export function exitCodesPage(): string {
  const codes = Object.keys(errorCodes) as (keyof typeof errorCodes)[];
  const rows = codes
    .sort((a, b) => errorCodes[a] - errorCodes[b])
    .map((code) => `| ${errorCodes[code]} | \`${code}\` | ${meanings[code]} |`);
  return `<!-- Made from packages/errors: tools/check-cli-reference --write -->

# Exit codes of sporectl

\`sporectl exec\` and \`sporectl run -- CMD\` end with the code of the command that they ran: 128 + signal when a
signal ended it, 127 when there is no such program in the guest, 126 when it could not be started. With
\`run -n\` the highest of them counts. The codes below are those of sporectl itself, also in these two commands
when it did not come to run the command; \`--json\` tells which of them it was by the name in \`error.code\`.

| code | name | meaning |
| --- | --- | --- |
| 0 | | Done |
${rows.join("\n")}
| 141 | | Standard output was closed before everything was written (\`sporectl logs … \\| head\`) |

Some commands take several machines or snapshots. They go on when one fails, and end with the code of the first
failure. \`sporectl doctor\` ends with 0 whatever it finds, and with 11 when something is missing and \`--strict\`
was given. \`sporectl node status\` ends with 13 when no spored runs. Ctrl-C in \`logs -f\` and \`stats\` ends with 0.
`;
}
