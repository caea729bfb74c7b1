import type { Remarks, UnmatchedPattern } from '../api/installation.ts';
import { PUBLICATION_ADVICE, publicationProblem } from '../schema/publications.ts';

/** The remarks on an installation, in words. */
export const warningsOf = ({ publishedBy = [], unmatched = [] }: Remarks): string[] => [
  ...publishedBy.map((name) => `${publicationProblem(name)}: ${PUBLICATION_ADVICE}`),
  ...unmatched.map((pattern) => `${unmatchedProblem(pattern)}: ${UNMATCHED_ADVICE}`),
];

export const unmatchedProblem = ({ option, pattern }: UnmatchedPattern): string =>
  `--${option} ${pattern} matches no table`;

export const UNMATCHED_ADVICE =
  'unless such a table is to come, look for a mistyped name or a schema that is missing in --schemas';
