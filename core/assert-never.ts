/** Closes a switch over a union: the compiler proves that no case is forgotten, the throw covers untrusted values. */
export function assertNever(value: never): never {
  throw new Error(`unreachable: unexpected value of type ${typeof value}`);
}
