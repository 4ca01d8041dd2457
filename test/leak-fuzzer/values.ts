/**
 * Values for the protected columns of the fuzzer's databases. Two sets differ in everything that a mask is to hide. What masking
 * does not hide is alike in them: which stored values are NULL, whether a whole column converts to another type, and for a mask
 * that leaves a part, that part and the shape around it.
 */

export interface Person {
  readonly ssn: string | null;
  readonly email: string | null;
  readonly card: string;
  readonly salary: string | null;
  readonly born: string;
  readonly token: string;
  readonly period: string;
  readonly feeling: string;
  readonly tags: readonly string[];
}

/** Words of letters that nothing else is made of, so that four of them in a row anywhere are a find. No text converts to anything. */
export const odd: readonly Person[] = [
  {
    ssn: "Zqxj Vkwy-77",
    email: "Bvqz@kxjw.Qvz",
    card: "Wjkq'Zv\"x%_",
    salary: "1234.5",
    born: "1961-02-03",
    token: "zQvk",
    period: "[3,9)",
    feeling: "calm",
    tags: ["Zqxj", "Vkwy-77"],
  },
  {
    ssn: "Qwzk-Jvxq",
    email: "Yzxq Kvwj",
    card: "Kzqj,Xvwq",
    salary: "99",
    born: "1990-12-31",
    token: "Kzqj",
    period: "[1,1000)",
    feeling: "busy",
    tags: ["Qwzk"],
  },
  {
    ssn: "Zqxj Vkwy-77",
    email: "Bvqz@kxjw.Qvz",
    card: "Wjkq'Zv\"x%_",
    salary: "1234.5",
    born: "1961-02-03",
    token: "zQvk",
    period: "[3,9)",
    feeling: "loud",
    tags: ["Zqxj", "Vkwy-77", "Jqzx"],
  },
  {
    ssn: null,
    email: "Xwqv\tJzky",
    card: "Vxzq Wkjy Zzqv",
    salary: null,
    born: "2001-06-15",
    token: "jXwq",
    period: "[7,8)",
    feeling: "calm",
    tags: ["Xwqv", "Jzky"],
  },
];

/** Nothing in common with `odd`: not lengths, order, equality or the number of words. */
export const oddOther: readonly Person[] = [
  {
    ssn: "Jwvz",
    email: "Vjzw Qxkz Jwqx Zkvy",
    card: "Ywzq",
    salary: "8000000",
    born: "2020-02-29",
    token: "wWjkzzq",
    period: "[100,101)",
    feeling: "loud",
    tags: ["Jwvz", "Yqkx", "Zwvj", "Kxzw"],
  },
  {
    ssn: "Jwvz",
    email: "Vjzw Qxkz Jwqx Zkvy",
    card: "Jyqz Vwkx, a Yzvq 5 Xqjz",
    salary: "-3",
    born: "1950-01-01",
    token: "Yqkzw",
    period: "[-5,2)",
    feeling: "loud",
    tags: ["Zwvj"],
  },
  {
    ssn: '5Xkqz Ywvj: é Zjwq, "Kvyx" %Qjz_',
    email: "Wqkx",
    card: "Qzwj\nYkxv",
    salary: "0.001",
    born: "1905-05-05",
    token: "qJ",
    period: "[9,10)",
    feeling: "busy",
    tags: ["Kvyx"],
  },
  {
    ssn: null,
    email: "Zxjq.Wkvy",
    card: "Ywzq",
    salary: null,
    born: "2020-02-29",
    token: "Zxjqwkvyyy",
    period: "[0,99)",
    feeling: "calm",
    tags: ["Zxjq", "Wkvy", "Qqzj"],
  },
];

/** Shapes as in life: for masks that leave the last four. */
export const shaped: readonly Person[] = shapedLike(
  ["521-44-9382", "457-55-5462", "611-23-4077"],
  ["grace.hopper@example.org", "alan.turing@example.net", "adam.lovelace@example.com"],
  ["4012888888881881", "5555555555554444", "378282246310005"],
);

/** The same separators, lengths and last four. */
export const shapedOther: readonly Person[] = shapedLike(
  ["318-62-9382", "229-71-5462", "703-18-4077"],
  ["clara.barton@sampl1e.org", "hedy.lamarr@sampl2e.net", "ivyx.comptons@sampl3e.com"],
  ["4716461581001881", "2223000041044444", "371449631020005"],
);

function shapedLike(ssns: readonly string[], emails: readonly string[], cards: readonly string[]): readonly Person[] {
  const base = ssns[0]!.startsWith("5") ? odd : oddOther;
  return base.map((person, at) => ({
    ...person,
    ssn: person.ssn === null ? null : ssns[at % 3]!,
    email: emails[at % 3]!,
    card: cards[at % 3]!,
    tags: [ssns[at % 3]!],
  }));
}
