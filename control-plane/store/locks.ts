/**
 * Numbers of the advisory locks that replicas hold on the store, each in one transaction at most. They are ours: they must only
 * differ from each other.
 */
export const storeLocks = {
  /** One apply, and one publication of a snapshot, at a time. */
  apply: 0x51_1c_e0_01,
  migration: 0x51_1c_e0_02,
  /** Making and moving authorities and signers. */
  authorities: 0x51_1c_e0_03,
  /** Giving gateways their slots. */
  slots: 0x51_1c_e0_04,
  /** Taking what gateways report of columns. */
  bindings: 0x51_1c_e0_05,
} as const;
