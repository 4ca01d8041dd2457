/** Small notations inside manifests: addresses and durations. Each gives undefined for what it does not understand. */

export interface Address {
  readonly host: string;
  readonly port: number;
}

/** `host:port`, `[::1]:port`. Ports 0 (only with `anyPort`) and 1 to 65,535. */
export function parseAddress(text: string, anyPort: boolean): Address | undefined {
  const match = /^(?:\[(?<v6>[0-9a-fA-F:.%]+)\]|(?<host>[^\s:/@[\]]+)):(?<port>[0-9]{1,5})$/.exec(text);
  const host = match?.groups?.["v6"] ?? match?.groups?.["host"];
  const port = Number(match?.groups?.["port"]);
  if (host === undefined || host === "" || port > 65_535 || (port === 0 && !anyPort)) return undefined;
  return { host, port };
}

/** Addresses that never leave the machine. Names are not resolved: only `localhost` is taken on trust. */
export function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || /^127\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}$/.test(host);
}

/** An IPv4 address in dotted decimals, or anything that can only be an IPv6 address. Networks are not addresses. */
export function isIpAddress(text: string): boolean {
  const v4 = /^([0-9]{1,3})\.([0-9]{1,3})\.([0-9]{1,3})\.([0-9]{1,3})$/.exec(text);
  if (v4 !== null) return v4.slice(1).every((part) => Number(part) <= 255);
  return text.includes(":") && URL.canParse(`http://[${text}]/`);
}

const unitMs: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 };

/** `500ms`, `60s`, `5m`, `1h` in milliseconds. */
export function parseDurationMs(text: string): number | undefined {
  const match = /^([0-9]{1,9})(ms|s|m|h)$/.exec(text);
  const unit = unitMs[match?.[2] ?? ""];
  return unit === undefined ? undefined : Number(match?.[1]) * unit;
}

/** For values that a check has ruled on: going on with something else would put in force what nobody wrote. */
export function checked<Value>(value: Value | undefined): Value {
  if (value === undefined) throw new Error("a document was built that its checks should have refused");
  return value;
}
