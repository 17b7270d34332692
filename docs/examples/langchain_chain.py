"""A guarded chat model in a LangChain chain, and an agent with guardrail middleware.

    pip install 'guardrail[cpu,langchain]' langchain-openai
    OPENAI_BASE_URL=http://127.0.0.1:8080/v1 OPENAI_API_KEY=x \\
        python docs/examples/langchain_chain.py
"""

from __future__ import annotations

import os

from langchain.agents import create_agent
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_openai import ChatOpenAI

from guardrail.sdk.langchain import GuardrailMiddleware, guarded

model = ChatOpenAI(model=os.environ.get("MODEL", "gpt-4o-mini"), max_tokens=30)

# Guard the model, and chains around it stay as they are.
prompt = ChatPromptTemplate.from_messages([("human", "Say one short sentence about {thing}.")])
chain = prompt | guarded(model, policy="default", on_block="message") | StrOutputParser()
print("chain:", chain.invoke({"thing": "kettles"}))
print("stream:", "".join(chain.stream({"thing": "cats"})))

# In an agent, user turns, tool results and the model's answers are judged.
agent = create_agent(model, middleware=[GuardrailMiddleware(policy="default")])
result = agent.invoke({"messages": [{"role": "user", "content": "Say hello."}]})
print("agent:", result["messages"][-1].content)
