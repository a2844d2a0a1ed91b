import type { MessageInitShape } from "@bufbuild/protobuf";
import type { ServiceImpl } from "@connectrpc/connect";
import type { node } from "@sporelet/api";
import { SporeletError } from "@sporelet/errors";
import type { FakeData } from "./fake-data.ts";

type Item = MessageInitShape<typeof node.TransferItemSchema>;

const mib = 1n << 20n;

/** Push, pull and export of a fake node: some events each, as spored sends them. */
export function fakeTransfers(
  data: FakeData,
): Pick<ServiceImpl<typeof node.NodeService>, "push" | "pull" | "exportSnapshot"> {
  const item = (value: Item) => ({ event: { case: "item" as const, value } });
  return {
    async *push({ snapshot, target, allowSecrets }) {
      const found = data.snapshot(snapshot);
      if (target === "") {
        throw new SporeletError({
          code: "invalid_argument",
          operation: "push",
          subject: snapshot,
          reason: "its name does not say which registry",
          hint: `sporectl push ${snapshot} registry.example/team/name:tag`,
        });
      }
      yield item({ id: "k", title: "kernel", state: "exists", totalBytes: 9n * mib });
      yield item({ id: "m", title: "memory", state: "encoding", totalBytes: 310n * mib });
      yield item({
        ...{ id: "m", title: "memory", state: "encoding" },
        ...{ doneBytes: 155n * mib, totalBytes: 310n * mib },
      });
      yield item({ id: "m", title: "memory", state: "done", totalBytes: 80n * mib });
      if (target.includes("secret") && !allowSecrets) {
        throw new SporeletError({
          code: "failed_precondition",
          operation: "publish",
          subject: snapshot,
          reason: "it holds what looks like a secret: a private key in its disk at offset 4096",
          hint: "take it out and freeze again, or give it to clones with run -e; --allow-secrets publishes it as it is",
        });
      }
      const value = {
        reference: target,
        digest: `sha256:${"5eed".repeat(16)}`,
        snapshot: found.digest,
        sentBytes: 80n * mib,
        reusedBytes: 9n * mib,
      };
      yield { event: { case: "pushed" as const, value } };
    },
    async *pull({ reference, tag }) {
      if (reference.includes("private")) {
        throw new SporeletError({
          code: "permission_denied",
          operation: "read",
          subject: reference,
          reason: "the registry asks for credentials",
          hint: `sporectl login ${reference.split("/")[0]}`,
        });
      }
      yield item({ id: "m", title: "memory", state: "waiting", totalBytes: 80n * mib });
      yield item({
        ...{ id: "m", title: "memory", state: "transferring" },
        ...{ doneBytes: 40n * mib, totalBytes: 80n * mib },
      });
      yield item({ id: "m", title: "memory", state: "done", totalBytes: 80n * mib });
      const value = { ...data.snapshot("hello:latest"), tags: [tag || reference], verified: true };
      yield { event: { case: "result" as const, value } };
    },
    async *exportSnapshot({ snapshot }) {
      const found = data.snapshot(snapshot);
      yield item({ id: "layer1.mem", title: "layer1.mem", state: "done" });
      yield { event: { case: "result" as const, value: found } };
    },
  };
}
