/** Registries for tests, real and made up. */
export {
  type DockerRegistry,
  type DockerRegistryOptions,
  startDockerRegistry,
  whyNoDockerRegistry,
} from "./docker-registry.ts";
