/** The text of docs/compatibility.md, from kept results. Pure. */
export type ClientResult =
  | { readonly name: string; readonly from: string; readonly reason: string }
  | {
      readonly name: string;
      readonly from: string;
      readonly target: number;
      readonly role: string;
      readonly version: string;
      readonly features: Readonly<Record<string, string>>;
    };
