export { type ErrorCode, errorCodes, exitCodeOf, SporeletError, type SporeletErrorOptions } from "./error.ts";
export { nearest } from "./nearest.ts";
