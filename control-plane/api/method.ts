/** One method of the admin API, without HTTP. */

/** One JSON answer, or one JSON value a line as they come. */
export type Method =
  | { readonly kind: "unary"; readonly call: (body: unknown) => Promise<unknown> }
  | { readonly kind: "stream"; readonly call: (body: unknown) => AsyncIterable<unknown> };
