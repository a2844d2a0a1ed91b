import { Code, ConnectError } from "@connectrpc/connect";
import { type ErrorCode, errorCodes, SporeletError } from "@sporelet/errors";
import { ErrorDetailSchema } from "./gen/sporelet/node/v1/node_pb.ts";

/** The nearest Connect code for each of ours; clients in other languages see at least that much. */
const connectCodes: Record<ErrorCode, Code> = {
  invalid_argument: Code.InvalidArgument,
  not_found: Code.NotFound,
  already_exists: Code.AlreadyExists,
  failed_precondition: Code.FailedPrecondition,
  resource_exhausted: Code.ResourceExhausted,
  deadline_exceeded: Code.DeadlineExceeded,
  guest_failed: Code.Unknown,
  corrupt: Code.DataLoss,
  incompatible: Code.FailedPrecondition,
  unsupported: Code.Unimplemented,
  permission_denied: Code.PermissionDenied,
  unavailable: Code.Unavailable,
  cancelled: Code.Canceled,
  internal: Code.Internal,
};

/** For an error that carries no detail of ours: what each Connect code means here. */
const ownCodes: Partial<Record<Code, ErrorCode>> = {
  [Code.Canceled]: "cancelled",
  [Code.InvalidArgument]: "invalid_argument",
  [Code.DeadlineExceeded]: "deadline_exceeded",
  [Code.NotFound]: "not_found",
  [Code.AlreadyExists]: "already_exists",
  [Code.PermissionDenied]: "permission_denied",
  [Code.ResourceExhausted]: "resource_exhausted",
  [Code.FailedPrecondition]: "failed_precondition",
  [Code.Unimplemented]: "unsupported",
  [Code.Unavailable]: "unavailable",
  [Code.DataLoss]: "corrupt",
  [Code.Unauthenticated]: "permission_denied",
};

/** What was being called, for an error that says nothing itself. */
export interface CallContext {
  operation: string;
  subject?: string | undefined;
}

/**
 * Turns anything thrown by a handler into what goes over the wire: a SporeletError becomes a ConnectError
 * with an ErrorDetail, from which `fromConnectError` makes an equal SporeletError again. The cause stays
 * behind: it may hold what is not the caller's business.
 */
export function toConnectError(
  error: unknown,
  context: CallContext = { operation: "serve the call" },
): ConnectError {
  if (error instanceof ConnectError && !(error.cause instanceof SporeletError)) return error;
  const ours = SporeletError.from(error instanceof ConnectError ? error.cause : error, context);
  const value = {
    code: ours.code,
    operation: ours.operation,
    subject: ours.subject ?? "",
    reason: ours.reason,
    hint: ours.hint ?? "",
    log: ours.log ?? "",
  };
  return new ConnectError(
    ours.message,
    connectCodes[ours.code],
    undefined,
    [{ desc: ErrorDetailSchema, value }],
    ours,
  );
}

/**
 * Turns what a client call threw into a SporeletError: the one that the handler threw when there is an
 * ErrorDetail, else one with the nearest code, about `context`.
 */
export function fromConnectError(error: unknown, context: CallContext): SporeletError {
  if (error instanceof SporeletError) return error;
  if (!(error instanceof ConnectError)) return SporeletError.from(error, context);
  const detail = error.findDetails(ErrorDetailSchema)[0];
  if (detail !== undefined && detail.code in errorCodes) {
    return new SporeletError({
      code: detail.code as ErrorCode,
      operation: detail.operation,
      subject: detail.subject || undefined,
      reason: detail.reason,
      hint: detail.hint || undefined,
      log: detail.log || undefined,
      cause: error,
    });
  }
  if (error.cause instanceof SporeletError) return error.cause;
  // A server that is ending refuses new streams, none of which it has looked at (RFC 9113, 8.7).
  const refused = error.rawMessage.includes("NGHTTP2_REFUSED_STREAM");
  const code = refused ? "unavailable" : (ownCodes[error.code] ?? "internal");
  return new SporeletError({ ...context, code, reason: error.rawMessage, cause: error });
}
