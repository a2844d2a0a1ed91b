import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { SporeletError } from "@sporelet/errors";

/** The guest agent's binary, and the digest that stands for it in cache keys. */
export interface AgentBinary {
  content: Uint8Array;
  digest: string;
}

/** Beside a bundle (dist/), and where `tools/build-agent` puts it seen from this file. */
const builtAgents = [new URL("agent", import.meta.url), new URL("../../../../dist/agent", import.meta.url)];

/**
 * Reads the agent from SPORELET_AGENT or from where `tools/build-agent` puts it.
 * @throws SporeletError `not_found` when it was not built
 */
export async function readAgent(environment: NodeJS.ProcessEnv = process.env): Promise<AgentBinary> {
  const named = environment.SPORELET_AGENT;
  for (const path of named === undefined ? builtAgents : [named]) {
    const content = await readFile(path).catch((error) => {
      if (error.code === "ENOENT") return undefined;
      throw SporeletError.from(error, { operation: "read the guest agent" });
    });
    if (content === undefined) continue;
    return { content, digest: createHash("sha256").update(content).digest("hex") };
  }
  throw new SporeletError({
    code: "not_found",
    operation: "read the guest agent",
    subject: named ?? builtAgents[1]?.pathname,
    reason: "it was not built",
    hint: "run tools/build-agent, or name a binary with SPORELET_AGENT",
  });
}
