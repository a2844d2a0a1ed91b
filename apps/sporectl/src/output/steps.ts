import type { node } from "@sporelet/api";
import { humanMs } from "./human.ts";
import { displayWidth, oneLine, type Style, truncate } from "./style.ts";

/** What has been said about one step of a build so far. */
export interface Step {
  id: string;
  title: string;
  state: "started" | "progress" | "cached" | "done" | "failed";
  /** 0 to 1; negative when unknown. */
  fraction: number;
  elapsedMs: number;
  detail: string;
  /** How much is done, beside the bar; it changes too often for lines that stay. */
  amount?: string;
}

export interface StepList {
  steps: readonly (Step & { heardMs: number })[];
  /** The last line that was logged, for the step at work. */
  logLine: string;
}

export const noSteps: StepList = { steps: [], logLine: "" };

/** A step as spored tells of it. */
export function stepOf({ id, title, state, fraction, elapsedMs, detail }: node.BuildStep): Step {
  const known = state === "started" || state === "cached" || state === "done" ? state : "progress";
  return { id, title, state: known, fraction, elapsedMs, detail };
}

/** The list after an event about a step, heard at `nowMs`. */
export function withStep(list: StepList, event: Step, nowMs: number): StepList {
  const entry = { ...event, heardMs: nowMs };
  const known = list.steps.findIndex((step) => step.id === event.id);
  const before = list.steps[known];
  if (before !== undefined && entry.title === "") entry.title = before.title;
  const steps = known < 0 ? [...list.steps, entry] : list.steps.with(known, entry);
  return { steps, logLine: event.state === "progress" ? list.logLine : "" };
}

/** The list once nothing more comes: what is not done by now has failed. */
export function withEnd(list: StepList, nowMs: number): StepList {
  const steps = list.steps.map((step) => {
    if (step.state !== "started" && step.state !== "progress") return step;
    return {
      ...step,
      state: "failed" as const,
      elapsedMs: step.elapsedMs + Math.max(0, nowMs - step.heardMs),
    };
  });
  return { steps, logLine: "" };
}

export function withLogLine(list: StepList, source: string, line: string): StepList {
  return { ...list, logLine: `${source}: ${line}` };
}

const spinner = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];
const barColumns = 20;

/** The list as lines of at most `columns`, at `nowMs`. */
export function stepLines(list: StepList, nowMs: number, columns: number, style: Style): string[] {
  const lines: string[] = [];
  const widest = Math.max(0, ...list.steps.map((step) => displayWidth(step.title)));
  for (const step of list.steps) {
    const failed = step.state === "failed";
    const over = failed || step.state === "done" || step.state === "cached";
    const elapsedMs = step.elapsedMs + (over ? 0 : Math.max(0, nowMs - step.heardMs));
    const mark = failed
      ? style.red("✗")
      : over
        ? style.green("✓")
        : style.cyan(spinner[Math.floor(nowMs / 100) % spinner.length] ?? "");
    const title = step.title + " ".repeat(widest - displayWidth(step.title));
    const time = step.state === "cached" ? step.detail || "cached" : humanMs(elapsedMs);
    const bar = over || step.fraction < 0 ? "" : `  ${progressBar(step.fraction)}`;
    const head = `${title}  ${time.padStart(8)}${bar}`;
    const said = [step.detail, step.amount ?? ""].filter((text) => text !== "").join(" ");
    const detail = over || said === "" ? "" : `  ${oneLine(said)}`;
    const room = columns - 2;
    const text = truncate(head, room) + style.dim(truncate(detail, Math.max(0, room - displayWidth(head))));
    lines.push(`${mark} ${over ? style.dim(truncate(head, room)) : text}`);
  }
  if (list.logLine !== "") lines.push(style.dim(`    ${truncate(oneLine(list.logLine), columns - 4)}`));
  return lines;
}

/** `████████░░░░  40 %` */
export function progressBar(fraction: number): string {
  const part = Math.min(1, Math.max(0, fraction));
  const full = Math.round(part * barColumns);
  return `${"█".repeat(full)}${"░".repeat(barColumns - full)} ${String(Math.floor(part * 100)).padStart(3)} %`;
}

/**
 * What one event says as a line of its own, where nothing can be redrawn; undefined when it says nothing
 * that the line before did not.
 */
export function stepEventLine(list: StepList, event: Step): string | undefined {
  const before = list.steps.find((step) => step.id === event.id);
  switch (event.state) {
    case "started":
      return `${event.id}: ${event.title.toLowerCase() === event.id ? "started" : event.title}`;
    case "cached":
      return `${event.id}: ${event.detail || "cached"}`;
    case "failed":
      return `${event.id}: failed`;
    case "done":
      return `${event.id}: done in ${humanMs(event.elapsedMs)}`;
    case "progress": {
      const detail = oneLine(event.detail);
      if (detail !== "" && detail !== oneLine(before?.detail ?? "")) return `${event.id}: ${detail}`;
      const quarter = Math.floor(event.fraction * 4);
      const isNew = event.fraction > 0 && quarter > Math.floor(Math.max(0, before?.fraction ?? 0) * 4);
      return isNew ? `${event.id}: ${Math.floor(event.fraction * 100)} %` : undefined;
    }
  }
}
