/** What an event has of a row and its transaction where nobody asks for it. */
export const NO_DETAILS = {
  before: null,
  after: null,
  changed: null,
  dataOmitted: null,
  origin: null,
  context: null,
  attempt: 1,
};
