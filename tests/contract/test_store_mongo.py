from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pymongo
import pytest
from pydantic import SecretStr

from shared.clock import Clock
from shared.ids import new_id
from shared.storage.mongo import MongoStore
from shared.storage.port import DocumentStore
from shared.testing.condition_contract import ConditionContract
from shared.testing.storage_contract import StoreContract

pytestmark = pytest.mark.mongodb


class TestMongoStore(StoreContract, ConditionContract):
    examples = 15

    @pytest.fixture(autouse=True)
    def place(self, mongo_url: str) -> None:
        self.url = mongo_url

    @asynccontextmanager
    async def opened(self, clock: Clock) -> AsyncIterator[DocumentStore]:
        prefix = f"t{new_id().hex[:10]}."
        store = MongoStore(
            SecretStr(self.url), database="callmesh_test", clock=clock, prefix=prefix
        )
        try:
            yield store
        finally:
            await store.close()
            with pymongo.MongoClient[dict[str, object]](self.url) as client:
                database = client["callmesh_test"]
                for name in database.list_collection_names(filter={"name": {"$regex": prefix}}):
                    database.drop_collection(name)
