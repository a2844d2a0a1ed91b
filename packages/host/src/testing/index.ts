/** Fixtures that other packages' tests use too. */
export { temporaryDirectory } from "./directory.ts";
export { mountXfs, whyNoMounts } from "./xfs.ts";
