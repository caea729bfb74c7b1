/**
 * What it means for the verdict that the server went back to an earlier state. The witnesses go back with it: at the end they show the
 * history that has survived. What was lost, the writers and the nodes tell. The rules:
 *
 * - Each change of the surviving history is handed out. If an event tells of a change that the surviving log never held, a transaction
 *   made the change whose mark is gone.
 * - A sequence names one change, the lost ones included, and an acknowledgement deletes only a change that was handed out: as without a rewind.
 * - A token is claimed once. The tokens that are claimed after a rewind are above all from before.
 * - An acknowledgement outlives a crash, whatever the application's own commits do. It may be lost with a failover or a restored backup,
 *   and then its change comes again.
 */
import type { Transaction } from './model.ts';
import type { Accuse, Evidence } from './oracle.ts';
import { type Claim, UNTOLD } from './witness.ts';

/** Whether the surviving log holds a change, or has held it. All are acknowledged at the end of a run. */
export function survivors({ rewinds, acknowledgements }: Evidence): (sequence: string) => boolean {
  if (rewinds.length === 0) return () => true;
  const acknowledged = new Set(acknowledgements.map(({ sequence }) => sequence));
  return (sequence) => acknowledged.has(sequence);
}

/** Whether the server may have lost the transaction, or may have lost how it ended. */
export const mayBeUndone = ({ rewinds }: Evidence, transaction: Transaction): boolean =>
  transaction.rewinds < rewinds.length;

/** Whether the server may have lost an acknowledgement that was done after this time. */
export const mayBeUnacknowledged = ({ rewinds }: Evidence, since: number): boolean =>
  rewinds.some(({ kind, to }) => kind !== 'crash' && since <= to);

/** Whether the server went back between these two times. */
export const wentBack = ({ rewinds }: Evidence, from: number, to: number): boolean =>
  rewinds.some((rewind) => rewind.to >= from && rewind.from <= to);

/** In the order of their tokens, the claims that the witness has seen, and those of which the nodes alone tell, as the server has lost them. */
export function allClaims(evidence: Evidence): Claim[] {
  const seen = new Set(evidence.claims.map(({ token }) => token));
  const lost = toldClaims(evidence).filter(({ token }) => !seen.has(token));
  return [...evidence.claims, ...lost].toSorted((a, b) => (BigInt(a.token) < BigInt(b.token) ? -1 : 1));
}

const toldClaims = ({ nodes }: Evidence): Claim[] =>
  nodes.flatMap(({ name, reports }) =>
    reports.flatMap((report) =>
      report.kind === 'state' && report.token !== null
        ? { token: report.token, node: name, at: report.at, wonBy: UNTOLD }
        : [],
    ),
  );

export function checkClaims(evidence: Evidence, accuse: Accuse): void {
  const { claims, rewinds } = evidence;
  const told = toldClaims(evidence);
  const seen = new Map(claims.map(({ token, node }) => [token, node]));
  const owners = new Map<string, string>();
  for (const { token, node } of told) {
    const other = owners.get(token);
    if (other) accuse('a token is claimed once', `${token} by ${other}, and by ${node}`);
    owners.set(token, node);
    if (rewinds.length === 0 && seen.get(token) !== node)
      accuse(
        'a token belongs to one node',
        `${node} was active under ${token}, which is ${seen.get(token)}'s`,
      );
  }
  for (const { kind, from, to } of rewinds) {
    const before = told.filter(({ at }) => at < from).map(({ token }) => BigInt(token));
    const highest = before.reduce((a, b) => (a > b ? a : b), 0n);
    for (const { token, node, at } of claims) {
      if (at > to && BigInt(token) <= highest)
        accuse(
          'tokens rise over a rewind',
          `${node} claimed ${token} after a ${kind}, and not above ${highest}`,
        );
    }
  }
}
