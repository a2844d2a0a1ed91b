import type { Context } from "../cli/context.ts";
import { createPainter } from "./painter.ts";
import {
  noSteps,
  type Step,
  type StepList,
  stepEventLine,
  stepLines,
  withEnd,
  withLogLine,
  withStep,
} from "./steps.ts";
import { oneLine } from "./style.ts";

/** Tells a person on standard error what is going on. Nothing with --quiet. */
export interface Progress extends Disposable {
  /** Shows a running clock beside `title`, on a terminal, when it takes longer than a moment. */
  waiting(title: string): void;
  /** An event of a build. */
  step(step: Step): void;
  log(source: string, line: string): void;
  /** A line that stays. */
  note(text: string): void;
  /** Leaves what was done standing, and ends. */
  end(): void;
}

export type ProgressForm = "auto" | "tty" | "plain";

const redrawMs = 100;
/** A wait shorter than this is not worth a flicker. */
const momentMs = 400;

export function createProgress(context: Context, form: ProgressForm = "auto"): Progress {
  const { stderr, env } = context.io;
  if (context.quiet) return silence;
  if (form === "plain") return createLines(context, true);
  if (form === "tty" || (stderr.isTTY === true && env.TERM !== "dumb")) return createDrawing(context);
  return createLines(context, false);
}

const nothing = () => {};
const silence: Progress = {
  waiting: nothing,
  step: nothing,
  log: nothing,
  note: nothing,
  end: nothing,
  [Symbol.dispose]: nothing,
};

/** One line per event. */
function createLines(context: Context, withLogs: boolean): Progress {
  let list = noSteps;
  return {
    ...silence,
    step(step) {
      const line = stepEventLine(list, step);
      list = withStep(list, step, context.io.now());
      if (line !== undefined) context.note(line);
    },
    log(source, line) {
      if (withLogs) context.note(`${source} | ${oneLine(line)}`);
    },
    note: context.note,
  };
}

/** Redrawn in place. */
function createDrawing(context: Context): Progress {
  const terminal = context.io.stderr;
  const painter = createPainter(terminal);
  let list: StepList = noSteps;
  const draw = () => {
    const lines = stepLines(list, context.io.now(), terminal.columns ?? 80, context.errorStyle);
    if (lines.length > 0) painter.paint(lines);
  };
  let timer: NodeJS.Timeout | undefined;
  const animate = (delayMs: number) => {
    timer ??= setTimeout(() => {
      draw();
      timer = setInterval(draw, redrawMs);
    }, delayMs);
  };
  const stop = () => {
    clearTimeout(timer);
    timer = undefined;
  };
  return {
    waiting(title) {
      list = withStep(
        noSteps,
        { id: "waiting", title, state: "started", fraction: -1, elapsedMs: 0, detail: "" },
        context.io.now(),
      );
      animate(momentMs);
    },
    step(step) {
      list = withStep(list, step, context.io.now());
      animate(0);
    },
    log(source, line) {
      list = withLogLine(list, source, line);
    },
    note(text) {
      painter.writeAbove([text]);
    },
    end() {
      stop();
      const ended = withEnd(
        { ...list, steps: list.steps.filter((step) => step.id !== "waiting") },
        context.io.now(),
      );
      const lines = stepLines(ended, context.io.now(), terminal.columns ?? 80, context.errorStyle);
      painter.clear();
      if (lines.length > 0) terminal.write(`${lines.join("\n")}\n`);
      list = noSteps;
    },
    [Symbol.dispose]() {
      stop();
      painter[Symbol.dispose]();
    },
  };
}
