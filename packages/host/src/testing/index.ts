/** Fixtures that other packages' tests use too. */
export { temporaryDirectory } from "./directory.ts";
export { type FileClient, openFileClient, whyNoFileClient } from "./file-client.ts";
export { freePorts } from "./free-ports.ts";
export { type TestNetns, testNetns, whyNoNetns } from "./netns.ts";
export { mountXfs, whyNoMounts } from "./xfs.ts";
