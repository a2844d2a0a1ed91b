import { hostLock } from "../host-lock.ts";

/**
 * Changes to the host's own network are made by one process at a time: which links are free and whether the rules
 * are still needed would otherwise be out of date when it matters.
 */
export const withNetworkLock = hostLock("/run/sporelet/network.lock", "change the host's network");
