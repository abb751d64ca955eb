#pragma once

#include <string>

#include "fst/model/chat.h"
#include "fst/run/records.h"
#include "fst/task/problem.h"

namespace fst {

/// The members "messages" and "enable_thinking" of a line, rendered. Throws InputError naming the
/// line for messages of another form and for a template that is not supported.
std::string rendered(const Record& line, const Chat& chat, GenerationPrompt generation);

/// chat.thinking of a deck: template, think or no_think.
Thinking thinking_of(const std::string& mode);
/// A problem under a system prompt, with the generation prompt. The data set's own system text
/// follows the prompt after a blank line; without either there is no system turn.
std::string problem_prompt(const Chat& chat, const std::string& prompt, const Problem& problem,
                           Thinking thinking);

}  // namespace fst
