/**
 * The demo's data: people who do not exist. Social security numbers have the areas 800 to 899, which were never handed out by
 * place (before June 2011); card numbers begin like the card schemes' published test numbers and pass Luhn; mail
 * addresses end in example.com, .org and .net (RFC 2606); telephone numbers are 555-01xx. The same on every machine.
 */
import { createRandomNumbers, type RandomNumbers } from "./random-numbers.ts";

export interface DemoTable {
  readonly name: string;
  readonly columns: readonly DemoColumn[];
}

/** One column with all its values: the shape that `unnest` takes. */
export interface DemoColumn {
  readonly name: string;
  readonly type: "int" | "text" | "numeric" | "timestamptz" | "date";
  readonly values: readonly (string | number | null)[];
}

export interface DemoSize {
  readonly customers: number;
  readonly orders: number;
  readonly notes: number;
}

export const demoSize: DemoSize = { customers: 5_000, orders: 20_000, notes: 2_000 };

interface Customer {
  readonly id: number;
  readonly fullName: string;
  readonly email: string;
  readonly phone: string;
  readonly ssn: string;
  readonly city: string;
  readonly country: string;
  readonly createdAt: string;
}

interface Card {
  readonly customerId: number;
  readonly network: string;
  readonly number: string;
  readonly expires: string;
}

const SEED = 20_260_101;
const NEWEST = Date.UTC(2026, 0, 1);
const DAY_MS = 86_400_000;

/** All tables in an order that satisfies their references. */
export function generateDemoData(size: DemoSize = demoSize): readonly DemoTable[] {
  const random = createRandomNumbers(SEED);
  const customers = Array.from({ length: size.customers }, (_, at) => makeCustomer(at + 1, random));
  const cards = customers.flatMap((customer) => makeCards(customer, random));
  return [
    customersTable(customers),
    cardsTable(cards),
    productsTable(random),
    ...ordersTables(customers, size.orders, random),
    notesTable(customers, cards, size.notes, random),
  ];
}

function makeCustomer(id: number, random: RandomNumbers): Customer {
  const first = random.pick(FIRST_NAMES);
  const last = random.pick(LAST_NAMES);
  const [city, country] = random.pick(PLACES);
  const ending = random.pick(["example.com", "example.org", "example.net"]);
  return {
    id,
    fullName: `${first} ${last}`,
    email: `${first}.${last}${id}@${ending}`.toLowerCase(),
    phone: `+1-${random.between(201, 989)}-555-01${digits(random, 2)}`,
    ssn: `8${digits(random, 2)}-${String(random.between(1, 99)).padStart(2, "0")}-${String(random.between(1, 9_999)).padStart(4, "0")}`,
    city,
    country,
    createdAt: timeBefore(random, 1_500),
  };
}

function makeCards(customer: Customer, random: RandomNumbers): readonly Card[] {
  return Array.from({ length: random.chance(0.2) ? 2 : 1 }, () => {
    const [network, prefix, length] = random.pick(NETWORKS);
    const body = `${prefix}${digits(random, length - prefix.length - 1)}`;
    const month = String(random.between(1, 12)).padStart(2, "0");
    return {
      customerId: customer.id,
      network,
      number: `${body}${luhnDigit(body)}`,
      expires: `${random.between(2026, 2031)}-${month}-01`,
    };
  });
}

/** The last digit that makes a card number pass (ISO/IEC 7812-1, annex B). */
export function luhnDigit(body: string): number {
  let sum = 0;
  for (let at = 0; at < body.length; at += 1) {
    const digit = Number(body[body.length - 1 - at]);
    const doubled = digit * 2;
    sum += at % 2 === 0 ? (doubled > 9 ? doubled - 9 : doubled) : digit;
  }
  return (10 - (sum % 10)) % 10;
}

function customersTable(customers: readonly Customer[]): DemoTable {
  return {
    name: "customers",
    columns: [
      { name: "id", type: "int", values: customers.map((customer) => customer.id) },
      { name: "full_name", type: "text", values: customers.map((customer) => customer.fullName) },
      { name: "email", type: "text", values: customers.map((customer) => customer.email) },
      { name: "phone", type: "text", values: customers.map((customer) => customer.phone) },
      { name: "ssn", type: "text", values: customers.map((customer) => customer.ssn) },
      { name: "city", type: "text", values: customers.map((customer) => customer.city) },
      { name: "country", type: "text", values: customers.map((customer) => customer.country) },
      { name: "created_at", type: "timestamptz", values: customers.map((customer) => customer.createdAt) },
    ],
  };
}

function cardsTable(cards: readonly Card[]): DemoTable {
  return {
    name: "cards",
    columns: [
      { name: "id", type: "int", values: cards.map((_, at) => at + 1) },
      { name: "customer_id", type: "int", values: cards.map((card) => card.customerId) },
      { name: "network", type: "text", values: cards.map((card) => card.network) },
      { name: "card_number", type: "text", values: cards.map((card) => card.number) },
      { name: "expires_on", type: "date", values: cards.map((card) => card.expires) },
    ],
  };
}

function productsTable(random: RandomNumbers): DemoTable {
  const names = MATERIALS.flatMap((material) => THINGS.map((thing) => `${material} ${thing}`));
  return {
    name: "products",
    columns: [
      { name: "id", type: "int", values: names.map((_, at) => at + 1) },
      { name: "name", type: "text", values: names },
      {
        name: "price",
        type: "numeric",
        values: names.map(() => `${random.between(4, 240)}.${random.pick(["00", "50", "90", "99"])}`),
      },
    ],
  };
}

function ordersTables(customers: readonly Customer[], count: number, random: RandomNumbers): readonly [DemoTable, DemoTable] {
  const orders = Array.from({ length: count }, (_, at) => ({
    id: at + 1,
    customerId: random.between(1, customers.length),
    status: random.pick(["paid", "paid", "shipped", "shipped", "delivered", "delivered", "delivered", "returned"]),
    placedAt: timeBefore(random, 720),
  }));
  const products = MATERIALS.length * THINGS.length;
  const items = orders.flatMap((order) =>
    Array.from({ length: random.between(1, 4) }, (_, at) => ({
      orderId: order.id,
      line: at + 1,
      productId: random.between(1, products),
      quantity: random.between(1, 3),
    })),
  );
  const ordersTable: DemoTable = {
    name: "orders",
    columns: [
      { name: "id", type: "int", values: orders.map((order) => order.id) },
      { name: "customer_id", type: "int", values: orders.map((order) => order.customerId) },
      { name: "status", type: "text", values: orders.map((order) => order.status) },
      { name: "placed_at", type: "timestamptz", values: orders.map((order) => order.placedAt) },
    ],
  };
  const itemsTable: DemoTable = {
    name: "order_items",
    columns: [
      { name: "order_id", type: "int", values: items.map((item) => item.orderId) },
      { name: "line", type: "int", values: items.map((item) => item.line) },
      { name: "product_id", type: "int", values: items.map((item) => item.productId) },
      { name: "quantity", type: "int", values: items.map((item) => item.quantity) },
    ],
  };
  return [ordersTable, itemsTable];
}

/** Free text: in every third note somebody typed in what belongs elsewhere. */
function notesTable(customers: readonly Customer[], cards: readonly Card[], count: number, random: RandomNumbers): DemoTable {
  const notes = Array.from({ length: count }, () => {
    const customer = random.pick(customers);
    const card = cards.find((candidate) => candidate.customerId === customer.id);
    const bodies = random.chance(0.34)
      ? [
          `Caller gave SSN ${customer.ssn} to prove who they are. Address changed.`,
          `Charged twice, card ${card?.number ?? "unknown"}. Refund promised within five days.`,
          `Wants invoices sent to ${customer.email} from now on.`,
        ]
      : PLAIN_NOTES;
    return {
      customerId: customer.id,
      body: random.pick(bodies),
      author: random.pick(FIRST_NAMES),
      writtenAt: timeBefore(random, 400),
    };
  });
  return {
    name: "support_notes",
    columns: [
      { name: "id", type: "int", values: notes.map((_, at) => at + 1) },
      { name: "customer_id", type: "int", values: notes.map((note) => note.customerId) },
      { name: "author", type: "text", values: notes.map((note) => note.author) },
      { name: "body", type: "text", values: notes.map((note) => note.body) },
      { name: "written_at", type: "timestamptz", values: notes.map((note) => note.writtenAt) },
    ],
  };
}

function digits(random: RandomNumbers, count: number): string {
  return Array.from({ length: count }, () => String(random.between(0, 9))).join("");
}

function timeBefore(random: RandomNumbers, days: number): string {
  return new Date(NEWEST - random.between(0, days * DAY_MS - 1)).toISOString();
}

/** Name, first digits of published test numbers, length. */
const NETWORKS: readonly (readonly [string, string, number])[] = [
  ["visa", "411111", 16],
  ["visa", "424242", 16],
  ["mastercard", "555555", 16],
  ["discover", "601111", 16],
  ["amex", "378282", 15],
];

const FIRST_NAMES: readonly string[] =
  "Amara Anton Aylin Beatriz Bruno Chloe Daniel Dilnoza Elena Emeka Farah Felix Grace Hana Hugo Ines Ivan Jamal Joana Kaito Karin Leila Liam Lucia Maja Marco Mei Nadia Noah Olga Omar Paula Priya Rafael Rosa Samir Sara Tariq Tomas Uma Viktor Wanda Yusuf Zoe".split(
    " ",
  );

const LAST_NAMES: readonly string[] =
  "Abara Almeida Andersson Bauer Bianchi Castillo Chen Costa Dubois Eriksen Fischer Garcia Haddad Hansen Hoffmann Ito Jansen Kaya Keller Kowalski Kumar Larsen Lopez Marino Moreau Nakamura Novak Okafor Oliveira Park Petrov Quinn Reyes Rossi Santos Sato Schmidt Silva Tanaka Usman Varga Walker Weber Yilmaz Zhang".split(
    " ",
  );

const PLACES: readonly (readonly [city: string, country: string])[] = [
  ["Austin", "US"],
  ["Berlin", "DE"],
  ["Bogota", "CO"],
  ["Boston", "US"],
  ["Chicago", "US"],
  ["Dublin", "IE"],
  ["Lagos", "NG"],
  ["Lisbon", "PT"],
  ["Madrid", "ES"],
  ["Nairobi", "KE"],
  ["Osaka", "JP"],
  ["Porto", "PT"],
  ["Seattle", "US"],
  ["Toronto", "CA"],
  ["Utrecht", "NL"],
  ["Vienna", "AT"],
];

const MATERIALS: readonly string[] = [
  "Ash",
  "Brass",
  "Canvas",
  "Ceramic",
  "Cork",
  "Glass",
  "Linen",
  "Oak",
  "Steel",
  "Walnut",
  "Wool",
];
const THINGS: readonly string[] = [
  "Bench",
  "Bowl",
  "Clock",
  "Frame",
  "Hook",
  "Lamp",
  "Mirror",
  "Rack",
  "Shelf",
  "Stool",
  "Throw",
  "Tray",
  "Vase",
];

const PLAIN_NOTES: readonly string[] = [
  "Asked when the order will arrive; told Thursday.",
  "Parcel came damaged, replacement sent.",
  "Happy with the lamp, wants the same in brass.",
  "Could not sign in; password reset.",
  "Asked to be called back in the afternoon.",
  "Returned two items, refund booked.",
  "Question about delivery abroad, answered.",
];
