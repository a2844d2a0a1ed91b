import { mkdir } from "node:fs/promises";
import path from "node:path";

// Stands in until @sporelet/host has these.
export interface Check {
  id: string;
  title: string;
  status: string;
  finding: string;
  remedy: string;
}
export async function hostChecks(_options: unknown): Promise<Check[]> {
  return [];
}
export async function openVolume({ home }: { home: string; signal?: AbortSignal }) {
  const store = path.join(home, "store");
  await mkdir(store, { recursive: true });
  return { path: store, reflink: false, notice: undefined as string | undefined, close: async () => {} };
}
