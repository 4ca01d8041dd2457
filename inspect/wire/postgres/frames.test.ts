import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { BodyReader, cstring, encodeMessage, type Frame, FrameReader, int16, int32 } from "./frames.ts";

function framesOf(chunks: readonly Buffer[], bytesMax = 1 << 20): Frame[] {
  const reader = new FrameReader(bytesMax);
  const frames: Frame[] = [];
  for (const chunk of chunks) {
    reader.push(chunk);
    for (let frame = reader.next(); frame !== null; frame = reader.next()) frames.push(frame);
  }
  expect(reader.rest).toEqual(Buffer.alloc(0));
  return frames;
}

const messages = [
  encodeMessage("Q", [cstring("select 1")]),
  encodeMessage("S", []),
  encodeMessage("d", [Buffer.alloc(10_000, 7)]),
  encodeMessage("Z", [Buffer.from("I")]),
];
const stream = Buffer.concat(messages);

describe("FrameReader", () => {
  it("gives the same frames at every split in two", () => {
    for (let at = 0; at <= stream.length; at += at < 60 || at > stream.length - 30 ? 1 : 997) {
      const frames = framesOf([stream.subarray(0, at), stream.subarray(at)]);
      expect(frames.map((frame) => frame.bytes)).toEqual(messages);
      expect(frames.map((frame) => frame.body)).toEqual(messages.map((message) => message.subarray(5)));
    }
  });

  it("gives the same frames in any pieces, and frames stay as they were after later pushes", () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 3000 }), { minLength: 1 }), (sizes) => {
        const chunks: Buffer[] = [];
        for (let at = 0, n = 0; at < stream.length; n++) {
          const size = sizes[n % sizes.length]!;
          chunks.push(Buffer.from(stream.subarray(at, at + size)));
          at += size;
        }
        expect(framesOf(chunks).map((frame) => frame.bytes)).toEqual(messages);
      }),
      { numRuns: 50 },
    );
  });

  it("takes a large frame in small chunks in linear time", () => {
    const large = encodeMessage("d", [Buffer.alloc(8 * 1024 * 1024)]);
    const chunks: Buffer[] = [];
    for (let at = 0; at < large.length; at += 512) chunks.push(large.subarray(at, at + 512));
    const startMs = performance.now();
    expect(framesOf(chunks, 16 * 1024 * 1024)).toHaveLength(1);
    expect(performance.now() - startMs).toBeLessThan(1000);
  });

  it("refuses a length above the limit before its body comes, and an impossible one", () => {
    const reader = new FrameReader(100);
    reader.push(Buffer.from([0x51, 0, 0, 0, 100]));
    expect(() => reader.next()).toThrow(expect.objectContaining({ code: "frame_too_large" }));
    const other = new FrameReader(100);
    other.push(Buffer.from([0x51, 0, 0, 0, 3]));
    expect(() => other.next()).toThrow(expect.objectContaining({ code: "protocol_violation" }));
  });
});

describe("BodyReader", () => {
  it("reads fields in order and insists on the end", () => {
    const reader = new BodyReader(Buffer.concat([Buffer.from([9]), int16(-2), int32(-3), cstring("ä"), Buffer.from("xy")]));
    expect([reader.byte(), reader.int16(), reader.int32(), reader.cstring()]).toEqual([9, -2, -3, "ä"]);
    expect(() => reader.end()).toThrow(expect.objectContaining({ code: "protocol_violation" }));
    expect(reader.bytes(2).toString()).toBe("xy");
    reader.end();
    expect(() => reader.byte()).toThrow(expect.objectContaining({ code: "protocol_violation" }));
  });

  it("refuses a string without an end", () => {
    expect(() => new BodyReader(Buffer.from("abc")).cstring()).toThrow(expect.objectContaining({ code: "protocol_violation" }));
  });
});
