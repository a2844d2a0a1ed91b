import { errorCodes } from "@sporelet/errors";
import type { Action } from "../cli/command.ts";
import type { DoctorSignature } from "../commands/host.ts";
import { printable } from "../output/style.ts";

export const action: Action<DoctorSignature> = async (context, _args, { strict }) => {
  const node = await context.node();
  const { checks } = await node.doctor({}, { signal: context.signal });
  const missing = checks.filter((check) => check.status === "missing");
  const code = strict && missing.length > 0 ? errorCodes.unsupported : 0;
  if (context.json) {
    const fields = checks.map(({ id, title, status, finding, remedy }) => ({
      id,
      title,
      status,
      finding,
      remedy,
    }));
    context.printJson({ ok: missing.length === 0, checks: fields });
    return code;
  }
  const { style } = context;
  const marks: Record<string, string> = {
    ok: style.green("ok      "),
    degraded: style.yellow("degraded"),
    missing: style.red("missing "),
  };
  const width = Math.max(0, ...checks.map((check) => check.title.length));
  for (const check of checks) {
    if (context.quiet && check.status === "ok") continue;
    context.print(
      `${marks[check.status] ?? check.status.padEnd(8)}  ${check.title.padEnd(width)}  ${printable(check.finding)}`.trimEnd(),
    );
    if (check.remedy !== "") {
      const indent = " ".repeat(width + 12);
      context.print(
        ...printable(check.remedy)
          .split("\n")
          .map((line) => `${indent}${style.cyan(line)}`),
      );
    }
  }
  const degraded = checks.filter((check) => check.status === "degraded").length;
  if (missing.length + degraded > 0) context.note(`${missing.length} missing, ${degraded} degraded`);
  return code;
};
