-- From the second version of the schema to the third: how often a sender was told of a message.
ALTER TABLE messages ADD COLUMN reported TEXT;
