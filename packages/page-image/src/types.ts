/** `sha256:` and 64 hex digits. */
export type Digest = `sha256:${string}`;

/**
 * A stretch of pages of 4096 bytes. Lists of runs are ascending and disjoint unless something else is said.
 */
export interface PageRun {
  /** Number of the first page: its offset in the image divided by 4096. */
  page: number;
  count: number;
}
