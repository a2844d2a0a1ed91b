/** What a build reports while it goes on: BuildStep and BuildLog of node.proto as plain objects. */
import type { PreheatEvent } from "@sporelet/compose-preheater";

export type StepId =
  | "kernel"
  | "initramfs"
  | "rootfs"
  | "images"
  | "boot"
  | "up"
  | "warm"
  | "freeze"
  | "workingset"
  | "store";

export interface BuildStep {
  case: "step";
  id: StepId;
  title: string;
  state: "started" | "progress" | "cached" | "done";
  /** 0 to 1; negative when unknown. */
  fraction: number;
  /** Since the step started. */
  elapsedMs: number;
  detail: string;
}

export interface BuildLog {
  case: "log";
  source: string;
  line: string;
}

export type BuildEvent = BuildStep | BuildLog;
export type OnBuildEvent = (event: BuildEvent) => void;

const stepTitles: Record<StepId, string> = {
  kernel: "Kernel",
  initramfs: "Initramfs",
  rootfs: "Root file system",
  images: "Container images",
  boot: "Boot",
  up: "Compose up",
  warm: "Warm-up",
  freeze: "Freeze",
  workingset: "Working set",
  store: "Store",
};

/** Reports on one step. Progress is said only when it moved by a percent or has a new detail. */
export interface Step {
  progress(fraction: number, detail?: string): void;
  log(line: string): void;
  done(detail?: string): void;
  cached(detail?: string): void;
}

export function startStep(id: StepId, onEvent: OnBuildEvent, detail = ""): Step {
  const start = performance.now();
  let reported = { fraction: -1, detail };
  const emit = (state: BuildStep["state"], fraction: number, text: string) =>
    onEvent({
      case: "step",
      id,
      title: stepTitles[id],
      state,
      fraction,
      elapsedMs: performance.now() - start,
      detail: text,
    });
  emit("started", -1, detail);
  return {
    progress(fraction, text = reported.detail) {
      if (text === reported.detail && Math.abs(fraction - reported.fraction) < 0.01) return;
      reported = { fraction, detail: text };
      emit("progress", fraction, text);
    },
    log: (line) => onEvent({ case: "log", source: id, line }),
    done: (text = "") => emit("done", 1, text),
    cached: (text = "") => emit("cached", 1, text),
  };
}

/** The preheater's phases as build steps. */
export function stepsOfPreheat(onEvent: OnBuildEvent): (event: PreheatEvent) => void {
  const steps = new Map<string, Step>();
  return (event) => {
    if (event.phase === "log") {
      onEvent({ case: "log", source: event.source, line: event.line });
      return;
    }
    const { phase, state, fraction, detail } = event;
    if (state === "started") steps.set(phase, startStep(phase satisfies StepId, onEvent, detail));
    else if (state === "progress") steps.get(phase)?.progress(fraction, detail);
    else steps.get(phase)?.done(detail);
  };
}
