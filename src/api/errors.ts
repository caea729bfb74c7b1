/**
 * Every error that this package throws, and how secrets are kept out of the errors. pg 8.23 puts no password into its
 * errors, but Node's `Invalid URL` carries the whole input, and a server may quote anything. So an error that wraps a
 * foreign error is given the connection's secrets. Neither its message nor its causes show them.
 */

/** What went wrong, for `switch` and for logs. */
export type ErrorCode =
  /** The config or the options break a rule; the message lists every violation. */
  | 'ERR_CONFIG_INVALID'
  /** The connection string can't be read, or asks for what this package can't give. */
  | 'ERR_CONNECTION_STRING'
  /** The database did not let us in, or not in time. */
  | 'ERR_CONNECT'
  /** The database went away. */
  | 'ERR_CONNECTION_LOST'
  /** The triggers and internal tables could not be created or changed. */
  | 'ERR_INSTALL'
  /** A notification on the channel is not the change of a row. */
  | 'ERR_PAYLOAD_INVALID'
  /** Another node holds the lease now, and has acknowledged the event or will do so. */
  | 'ERR_LEASE_LOST'
  /** A second `handle()` while one is running. */
  | 'ERR_ALREADY_HANDLING'
  /** The input has been closed. */
  | 'ERR_CLOSED';

const RETRYABLE: ReadonlySet<ErrorCode> = new Set(['ERR_CONNECT', 'ERR_CONNECTION_LOST']);

/** The options of the constructor of {@link PostgresInputError}. */
export interface PostgresInputErrorOptions {
  /** The error that caused this one. */
  cause?: unknown;
  /** Whether the same call may succeed later. Default: only `ERR_CONNECT` and `ERR_CONNECTION_LOST`. */
  retryable?: boolean;
  /** The texts that neither the message nor the causes may show. Without any, `cause` is kept as it is. */
  secrets?: readonly string[];
}

/** Any failure of an input. The message says what to do and never shows a password. */
export class PostgresInputError extends Error {
  static {
    this.prototype.name = 'PostgresInputError';
  }

  /** What went wrong. */
  readonly code: ErrorCode;
  /** Whether the same call may succeed later without any change: it is worth a retry. */
  readonly retryable: boolean;

  constructor(code: ErrorCode, message: string, options: PostgresInputErrorOptions = {}) {
    const { cause, retryable = RETRYABLE.has(code), secrets = [] } = options;
    super(
      redact(message, secrets),
      cause === undefined ? undefined : { cause: withoutSecrets(cause, secrets) },
    );
    this.code = code;
    this.retryable = retryable;
  }
}

/** What was thrown, in words. An object may throw itself when it is made a text. */
export function messageOf(error: unknown): string {
  try {
    return String(error instanceof Error ? error.message : error);
  } catch {
    return 'the error can not be printed';
  }
}

/** `text` with `***` for every occurrence of a secret. */
export function redact(text: string, secrets: readonly string[]): string {
  // Longest first: replacing a secret that is part of a longer one would leave the rest of the longer one readable.
  return secrets
    .filter((secret) => secret !== '')
    .toSorted((a, b) => b.length - a.length)
    .reduce((safe, secret) => safe.replaceAll(secret, '***'), text);
}

/**
 * A copy of an error with its plain properties (`code`, `detail`, `address` ...) and its causes, all redacted. Objects
 * that the error carries, such as a client or its config, are left out. The copy is still `instanceof` the error's class.
 */
export function withoutSecrets(
  value: unknown,
  secrets: readonly string[],
  copies = new Map<Error, Error>(),
): unknown {
  if (typeof value === 'string') return redact(value, secrets);
  if (typeof value !== 'object' || value === null || secrets.length === 0) return value;
  if (value instanceof PostgresInputError) return value;
  if (Array.isArray(value)) return value.map((item) => withoutSecrets(item, secrets, copies));
  if (!(value instanceof Error)) return undefined;
  // An error may lead back to itself, by its cause for instance.
  const known = copies.get(value);
  if (known) return known;

  const copy = emptyCopy(value, secrets);
  copies.set(value, copy);
  for (const name of Object.getOwnPropertyNames(value)) {
    const property = withoutSecrets(Reflect.get(value, name), secrets, copies);
    const enumerable = Object.prototype.propertyIsEnumerable.call(value, name);
    if (typeof property !== 'function') Object.defineProperty(copy, name, { value: property, enumerable });
  }
  return copy;
}

/** An AbortSignal aborts with a DOMException, whose accessors refuse every object that its constructor has not made. */
const emptyCopy = (error: Error, secrets: readonly string[]): Error =>
  error instanceof DOMException
    ? new DOMException(redact(error.message, secrets), error.name)
    : Object.setPrototypeOf(new Error(), Object.getPrototypeOf(error));
