import { create } from "@bufbuild/protobuf";
import type { HandlerContext } from "@connectrpc/connect";
import { node as api } from "@sporelet/api";
import { SporeletError } from "@sporelet/errors";
import type { BuildEvent as StepEvent } from "@sporelet/snapshot-builder";
import { normalizeReference, type StoredSnapshot } from "@sporelet/store";
import type { Probe } from "@sporelet/vmm";
import { buildNetwork } from "./build-network.ts";
import { loadBuilder } from "./builder.ts";
import { requireCleanSnapshot } from "./distribution/secrets.ts";
import { createEventQueue } from "./event-queue.ts";
import { createRecorder } from "./lazy/recorder.ts";
import { snapshotMessage } from "./messages.ts";
import type { Node } from "./node.ts";
import { createQueues } from "./together.ts";

const defaultTimeoutMs = 900_000;

/** Serves Build. Builds of the same tag run one after the other: the later one finds what the earlier made. */
export function createBuilds(node: Node) {
  const queues = createQueues();

  return async function* build(
    request: api.BuildRequest,
    context: HandlerContext,
  ): AsyncGenerator<api.BuildEvent> {
    const tag = normalizeReference(request.tag);
    const layer = layerOf(request);
    const events = createEventQueue<api.BuildEvent>();
    const left = new AbortController();
    const limit = AbortSignal.timeout(request.timeoutMs || defaultTimeoutMs);
    const signal = AbortSignal.any([context.signal, node.shutdown, left.signal, limit]);
    const onEvent = (event: StepEvent) => events.push(eventMessage(event));
    const work = queues(tag, () => run(node, { request, tag, layer, signal, onEvent }));
    const done = work.then(
      (snapshot) => {
        events.push(
          create(api.BuildEventSchema, { event: { case: "result", value: snapshotMessage(snapshot) } }),
        );
        events.end();
      },
      (error: unknown) =>
        events.end({ error: SporeletError.from(error, { operation: "build", subject: tag }) }),
    );
    try {
      yield* events;
    } finally {
      // Whoever goes away has the build aborted, and what it had begun is cleared away before the call ends.
      left.abort();
      await done;
    }
  };
}

interface BuildPlan {
  request: api.BuildRequest;
  tag: string;
  layer: 0 | 1;
  signal: AbortSignal;
  onEvent: (event: StepEvent) => void;
}

async function run(node: Node, { request, tag, layer, signal, onEvent }: BuildPlan): Promise<StoredSnapshot> {
  signal.throwIfAborted();
  const { buildLayer0, buildSnapshot, loadProject } = await loadBuilder();
  const { store, vmm, runtimeDirectory } = node;
  // Which of the results in the cache it will use is not known yet: none of those that it does is collected.
  using _lease = store.lease(undefined, `build of ${tag}`);
  const noCache = request.noCache;
  // What cannot be built is said before anything is fetched or made.
  if (layer > 0) await loadProject(request.path);
  requireVmm(await node.probes.get());
  // Which accelerator works can only be told by running a guest.
  const guest = await buildLayer0({ store, noCache, signal, onEvent });
  const probe = await node.probes.best(guest);
  const alreadyTold = new Set(["kernel", "initramfs"]);
  const snapshot = await buildSnapshot({
    path: request.path,
    tag,
    layer,
    // Layer 0 was built anew a moment ago when that was asked for.
    noCache,
    store,
    vmm,
    probe,
    network: () => buildNetwork(node, signal),
    recorder: createRecorder(node),
    runtimeDirectory,
    signal,
    onEvent: (event) => {
      if (event.case === "log" || !alreadyTold.has(event.id)) onEvent(event);
    },
  });
  // Whoever is to publish it should not be the first to hear of that.
  await requireCleanSnapshot(store, snapshot, tag, signal).catch((error) => {
    signal.throwIfAborted();
    const { reason } = SporeletError.from(error, { operation: "search", subject: tag });
    onEvent({ case: "log", source: "secrets", line: `a push would be refused: ${reason}` });
  });
  return snapshot;
}

function requireVmm({ driver, version, problems: [problem] }: Probe): void {
  if (version !== undefined) return;
  throw new SporeletError({
    code: "unsupported",
    operation: "build a machine",
    subject: `with ${driver}`,
    reason: problem?.finding ?? "it does not work on this host",
    hint: problem?.remedy ?? "sporectl doctor",
  });
}

function layerOf({ layer, path }: api.BuildRequest): 0 | 1 {
  if (layer === 0 || layer === 1) return layer;
  throw new SporeletError({
    code: "invalid_argument",
    operation: "build",
    subject: path,
    reason: `there is no layer ${layer} to build, only 0 and 1`,
    hint: "layers above are made of running machines: sporectl snapshot create",
  });
}

function eventMessage(event: StepEvent): api.BuildEvent {
  const value =
    event.case === "step"
      ? { case: "step" as const, value: create(api.BuildStepSchema, event) }
      : { case: "log" as const, value: create(api.BuildLogSchema, event) };
  return create(api.BuildEventSchema, { event: value });
}
