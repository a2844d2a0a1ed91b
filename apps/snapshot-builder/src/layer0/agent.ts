import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { SporeletError } from "@sporelet/errors";

/** The guest agent's binary, and the digest that stands for it in cache keys. */
export interface AgentBinary {
  content: Uint8Array;
  digest: string;
}

/** Where `tools/build-agent` puts the agent; in a bundle as in the source tree it lies at the same place. */
const builtAgent = new URL("../../../../dist/agent", import.meta.url);

/**
 * Reads the agent from SPORELET_AGENT or from where `tools/build-agent` puts it.
 * @throws SporeletError `not_found` when it was not built
 */
export async function readAgent(environment: NodeJS.ProcessEnv = process.env): Promise<AgentBinary> {
  const path = environment.SPORELET_AGENT ?? builtAgent;
  try {
    const content = await readFile(path);
    return { content, digest: createHash("sha256").update(content).digest("hex") };
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") {
      throw SporeletError.from(error, { operation: "read the guest agent" });
    }
    throw new SporeletError({
      code: "not_found",
      operation: "read the guest agent",
      subject: path instanceof URL ? path.pathname : path,
      reason: "it was not built",
      hint: "run tools/build-agent, or name a binary with SPORELET_AGENT",
      cause: error,
    });
  }
}
