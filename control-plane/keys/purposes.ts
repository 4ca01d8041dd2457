/** What each wrapped key in the store is for: bound into its encryption, so that none can be put in another's place. */

export function authorityKeyPurpose(fingerprint: string): string {
  return `authority ${fingerprint}`;
}

export function signerKeyPurpose(id: string): string {
  return `signer ${id}`;
}
