// An agent with the OpenAI client that holds no credential. Where the model is,
// the client is told by OPENAI_BASE_URL or, as Azure's, by AZURE_OPENAI_ENDPOINT.
import OpenAI, { AzureOpenAI } from "openai";

const model = process.env.MODEL ?? "gpt-5";
const client = process.env.AZURE_OPENAI_ENDPOINT ? new AzureOpenAI({ apiVersion: "2024-10-21" }) : new OpenAI();
const said = (content, role = "user") => ({ role, content });

// Whole answers.
const chat = (body, options) => client.chat.completions.create({ model, ...body }, options);
const whole = await chat({ messages: [said("hello")] });
console.log(`chat: ${whole.choices[0].message.content}`);

// An answer as it is made.
let pieces = 0, text = "", first;
for await (const chunk of await chat({ messages: [said("one two three four five")], stream: true, stream_options: { include_usage: true } })) {
  const piece = chunk.choices[0]?.delta.content;
  if (piece) {
    first ??= performance.now();
    pieces++;
    text += piece;
  }
}
console.log(`stream: ${text}, in ${pieces} pieces, the first ${Math.round(performance.now() - first)} ms before the end`);

// A tool of the agent's.
const tools = [{ type: "function", function: { name: "weather", parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] } } }];
const messages = [said("Zürich")];
const asked = (await chat({ messages, tools })).choices[0].message;
const call = asked.tool_calls[0];
messages.push(asked, { role: "tool", tool_call_id: call.id, content: `rain in ${JSON.parse(call.function.arguments).city}` });
console.log(`tool: ${(await chat({ messages, tools })).choices[0].message.content}`);

// An answer that nobody wants any more.
const long = await chat({ messages: [said("word ".repeat(2000))], stream: true });
let heard = 0;
for await (const _ of long) {
  if (++heard === 5) long.controller.abort();
}
console.log(`abort: stopped after ${heard} pieces`);

// The responses API, which Azure has below /openai/v1 alone.
if (!(client instanceof AzureOpenAI)) {
  const response = await client.responses.create({ model, input: "hello" });
  console.log(`response: ${response.output_text}`);
  const events = [];
  for await (const event of await client.responses.create({ model, input: "hello", stream: true })) events.push(event.type);
  console.log(`response stream: ${events.filter((type) => type === "response.output_text.delta").length} pieces, then ${events.at(-1)}`);
}

// What the API itself refuses.
try {
  await chat({ model: process.env.BUSY_MODEL ?? "busy", messages: [said("hello")] });
} catch (error) {
  console.log(`refused: ${error.constructor.name} ${error.status} ${error.code}: ${error.message}`);
}
