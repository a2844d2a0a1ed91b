/** Registries for tests, real and made up. */
export { blobOf, collect, sourceOf } from "./blobs.ts";
export { makeCertificate, type TestCertificate, whyNoCertificate } from "./certificate.ts";
export {
  type DockerRegistry,
  type DockerRegistryOptions,
  startDockerRegistry,
  whyNoDockerRegistry,
} from "./docker-registry.ts";
export { imageValidator } from "./image-schemas.ts";
export { type LimitedAddress, limitRate } from "./limit-rate.ts";
export type { TestAuth } from "./registry/auth.ts";
export type { Fault, RecordedRequest } from "./registry/faults.ts";
export { startTestRegistry, type TestRegistry, type TestRegistryOptions } from "./registry/server.ts";
export { orasProgram, whyNoImageSchemas, whyNoOras } from "./tools.ts";
