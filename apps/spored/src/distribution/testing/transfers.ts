import type { node as api, NodeClient } from "@sporelet/api";

type PushRequest = Parameters<NodeClient["push"]>[0];
type PullRequest = Parameters<NodeClient["pull"]>[0];

/** Publishes a snapshot. */
export async function push(
  client: NodeClient,
  request: PushRequest,
  options: { signal?: AbortSignal; onItem?(item: api.TransferItem): void } = {},
): Promise<{ pushed: api.Pushed; items: api.TransferItem[]; notices: string[] }> {
  const { last, ...heard } = await listen(client.push(request, options), options.onItem);
  if (last.case !== "pushed") throw new Error("the push ended without a result");
  return { pushed: last.value, ...heard };
}

/** Fetches a snapshot. */
export async function pull(
  client: NodeClient,
  request: PullRequest,
  options: { signal?: AbortSignal; onItem?(item: api.TransferItem): void } = {},
): Promise<{ snapshot: api.Snapshot; items: api.TransferItem[]; notices: string[] }> {
  const { last, ...heard } = await listen(client.pull(request, options), options.onItem);
  if (last.case !== "result") throw new Error("the pull ended without a result");
  return { snapshot: last.value, ...heard };
}

/** Writes a snapshot's files into a directory. */
export async function exportTo(
  client: NodeClient,
  request: Parameters<NodeClient["exportSnapshot"]>[0],
): Promise<api.Snapshot> {
  const { last } = await listen(client.exportSnapshot(request));
  if (last.case !== "result") throw new Error("the export ended without a result");
  return last.value;
}

async function listen(
  events: AsyncIterable<api.TransferEvent>,
  onItem: (item: api.TransferItem) => void = () => undefined,
) {
  const items: api.TransferItem[] = [];
  const notices: string[] = [];
  let last: api.TransferEvent["event"] = { case: undefined };
  for await (const { event } of events) {
    last = event;
    if (event.case === "notice") notices.push(event.value);
    if (event.case !== "item") continue;
    items.push(event.value);
    onItem(event.value);
  }
  return { last, items, notices };
}
