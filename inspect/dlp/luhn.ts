/** The check digit of payment cards and others (ISO/IEC 7812-1, annex B). */
import { isDigit } from "./characters.ts";

/** True when the digits in `text[start, end)` carry a valid check digit. Everything but digits is passed over. */
export function luhnValid(text: string, start: number, end: number): boolean {
  let sum = 0;
  let count = 0;
  for (let at = end - 1; at >= start; at -= 1) {
    const code = text.charCodeAt(at);
    if (!isDigit(code)) continue;
    const digit = code - 0x30;
    const doubled = digit * 2;
    sum += (count & 1) === 0 ? digit : doubled > 9 ? doubled - 9 : doubled;
    count += 1;
  }
  return count > 1 && sum % 10 === 0;
}
