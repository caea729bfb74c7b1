/** The layout of the change log: what SQL and TypeScript both know of its rows. */

/**
 * How many sequences each row of the log has, from a multiple of this on, whatever is done to the sequence that counts
 * rows. A row that holds many changes has a size, and they bear the sequences after its own; the change of any other row
 * bears the row's.
 */
export const STRIDE = 1000;

/** A statement that changes more rows than this is announced without its changes, and packed. */
export const FEW = 50;
/** Changes per row of the log, of a statement that changes many: a row and its place in the index cost more than they do. */
export const PACK = 100;
