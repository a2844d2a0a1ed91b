import { describe, expect, it } from "vitest";
import type { Descriptor } from "../descriptor.ts";
import { sha256 } from "../digest.ts";
import { canonicalJson } from "../json.ts";
import { mediaTypes } from "../media-types.ts";
import { type RecordedRequest, startTestRegistry } from "../testing/index.ts";
import { createRegistryClient } from "./client.ts";

const subject = canonicalJson({ schemaVersion: 2, mediaType: mediaTypes.index, manifests: [] });
const tag = sha256(subject).replace(":", "-");

/** A registry that does not keep track of referrers, with something to refer to. */
async function start() {
  const stack = new AsyncDisposableStack();
  const registry = stack.use(await startTestRegistry({ referrers: false }));
  const client = stack.use(createRegistryClient({ retries: { firstDelayMs: 1 } }));
  const repository = client.repository(registry.address, "hello");
  const { digest, size } = await repository.pushManifest(subject, mediaTypes.index, "v1");
  /** Sends something that refers to it. */
  const refer = (name: string): Promise<Descriptor> => {
    const bytes = canonicalJson({
      ...{ schemaVersion: 2, mediaType: mediaTypes.index, manifests: [], annotations: { name } },
      subject: { mediaType: mediaTypes.index, digest, size },
    });
    return repository.pushManifest(bytes, mediaTypes.index, sha256(bytes));
  };
  const listed = async () => (await repository.referrers(digest)).map((entry) => entry.digest);
  /**
   * Has somebody else, who read the list before we wrote it, write it after us.
   *
   * @param times how often
   */
  const overwrite = (bytes: Buffer, times: number) => {
    let ours = false;
    let left = times;
    const on = ({ method, path }: RecordedRequest): boolean => {
      if (!path.endsWith(`/manifests/${tag}`)) return false;
      if (method === "PUT") ours = true;
      else if (ours && left > 0) {
        ours = false;
        left -= 1;
        registry.manifests.set(`hello:${tag}`, { mediaType: mediaTypes.index, bytes });
      }
      return false;
    };
    registry.faults.add({ on });
  };
  return { registry, refer, listed, overwrite, [Symbol.asyncDispose]: () => stack.disposeAsync() };
}

describe("the list of referrers in a tag", () => {
  it("has all that were sent, each once", async () => {
    await using test = await start();
    const [one, two] = [await test.refer("one"), await test.refer("two")];
    await test.refer("one");
    expect(await test.listed()).toEqual([one.digest, two.digest]);
  });

  it("has ours too when somebody else writes it at the same time", async () => {
    await using test = await start();
    const theirs = await test.refer("theirs");
    const list = test.registry.manifests.get(`hello:${tag}`)?.bytes ?? Buffer.alloc(0);
    test.registry.manifests.delete(`hello:${tag}`);
    test.overwrite(list, 2);
    const ours = await test.refer("ours");
    expect(await test.listed()).toEqual([theirs.digest, ours.digest]);
  });

  it("is not fought for without end", async () => {
    await using test = await start();
    await test.refer("theirs");
    const list = test.registry.manifests.get(`hello:${tag}`)?.bytes ?? Buffer.alloc(0);
    test.overwrite(list, Number.POSITIVE_INFINITY);
    await expect(test.refer("ours")).rejects.toMatchObject({
      code: "unavailable",
      subject: expect.stringContaining(tag),
    });
  });
});
