export { type Digest, digestOf, type ImageDigest } from "./digest.ts";
